// Eight values at a time, by way of float16, whose exponent has room for those of both types. Only
// functions marked RESHARD_AVX2 are compiled for AVX2 and F16C.

#include "engine/dequantize_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define RESHARD_AVX2 __attribute__((target("avx2,f16c")))

namespace reshard::dequantize_kernels {
namespace {

template <DType kType>
RESHARD_AVX2 inline __m256 Decode8(const std::byte* values) {
  const __m128i bytes =
      _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(values)));
  const __m128i high = _mm_slli_epi16(bytes, 8);
  // float8_e5m2 is the upper half of a float16.
  if constexpr (kType == DType::kFloat8E5M2) return _mm256_cvtph_ps(high);
  // float8_e4m3fn has a bit less of exponent: as float16 it is 2^8 times too small, and its NaN 480.
  const __m128i magnitude = _mm_and_si128(bytes, _mm_set1_epi16(0x7f));
  const __m128i sign = _mm_and_si128(high, _mm_set1_epi16(static_cast<short>(0x8000)));
  const __m128i is_nan = _mm_cmpeq_epi16(magnitude, _mm_set1_epi16(0x7f));
  const __m128i half = _mm_or_si128(_mm_or_si128(sign, _mm_slli_epi16(magnitude, 7)),
                                    _mm_and_si128(is_nan, _mm_set1_epi16(0x7e00)));
  return _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256.0F));
}

template <DType kType>
RESHARD_AVX2 void Multiply(const std::byte* values, float scale, float* products, size_t n) {
  const __m256 scales = _mm256_set1_ps(scale);
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(products + i, _mm256_mul_ps(Decode8<kType>(values + i), scales));
  FindScalar(kType)(values + i, scale, products + i, n - i);
}

}  // namespace

MultiplyFn FindAvx2(DType dtype) {
  if (dtype == DType::kFloat8E4M3FN) return Multiply<DType::kFloat8E4M3FN>;
  if (dtype == DType::kFloat8E5M2) return Multiply<DType::kFloat8E5M2>;
  return nullptr;
}

}  // namespace reshard::dequantize_kernels

#else

namespace reshard::dequantize_kernels {

MultiplyFn FindAvx2(DType) { return nullptr; }

}  // namespace reshard::dequantize_kernels

#endif
