// Eight elements at a time, by way of float32. Only functions marked RESHARD_AVX2 are compiled for
// AVX2 and F16C; the file itself is not, so that nothing it shares with others needs them.
//
// There is no AVX-512 version: this one is limited by memory already, and the instruction made for
// the purpose, VCVTNEPS2BF16, takes subnormals for zero.

#include "engine/cast_kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>

#include "engine/cast_scalar.h"

#define RESHARD_AVX2 __attribute__((target("avx2,f16c")))

namespace reshard::cast_kernels {
namespace {

template <typename T>
RESHARD_AVX2 inline __m256 Load8(const std::byte* src) {
  if constexpr (T::kType == DType::kFloat16) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src)));
  } else if constexpr (T::kType == DType::kBFloat16) {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
  } else if constexpr (T::kType == DType::kFloat32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(src));
  } else {
    const auto* wide = reinterpret_cast<const double*>(src);
    return _mm256_set_m128(_mm256_cvtpd_ps(_mm256_loadu_pd(wide + 4)),
                           _mm256_cvtpd_ps(_mm256_loadu_pd(wide)));
  }
}

RESHARD_AVX2 inline __m128i BFloatFromFloat8(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, nan, is_nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}

template <typename T>
RESHARD_AVX2 inline void Store8(__m256 value, std::byte* dst) {
  if constexpr (T::kType == DType::kFloat16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst),
                     _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  } else if constexpr (T::kType == DType::kBFloat16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst), BFloatFromFloat8(value));
  } else if constexpr (T::kType == DType::kFloat32) {
    _mm256_storeu_ps(reinterpret_cast<float*>(dst), value);
  } else {
    auto* wide = reinterpret_cast<double*>(dst);
    _mm256_storeu_pd(wide, _mm256_cvtps_pd(_mm256_castps256_ps128(value)));
    _mm256_storeu_pd(wide + 4, _mm256_cvtps_pd(_mm256_extractf128_ps(value, 1)));
  }
}

/// Converts n elements, a multiple of 8; true where any of the results is infinite.
template <typename From, typename To>
RESHARD_AVX2 bool CastBlock(const std::byte* src, std::byte* dst, size_t n) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256 limit = _mm256_set1_ps(To::kOverflow);
  __m256 infinite = _mm256_setzero_ps();
  for (size_t i = 0; i < n; i += 8, src += 8 * From::kSize, dst += 8 * To::kSize) {
    const __m256 value = Load8<From>(src);
    Store8<To>(value, dst);
    if constexpr (kCanOverflow<From, To>)
      infinite =
          _mm256_or_ps(infinite, _mm256_cmp_ps(_mm256_andnot_ps(sign, value), limit, _CMP_GE_OQ));
  }
  return _mm256_movemask_ps(infinite) != 0;
}

template <typename From, typename To>
struct Avx2Kernel {
  static size_t Run(const std::byte* src, std::byte* dst, size_t n) {
    // Counting is by block, where the block has an infinity at all: it is still in the L1 cache.
    constexpr size_t kBlock = 1024;
    size_t overflows = 0;
    while (n >= 8) {
      const size_t count = std::min(n & ~size_t{7}, kBlock);
      if (CastBlock<From, To>(src, dst, count)) overflows += CountOverflows<From, To>(src, count);
      src += count * From::kSize;
      dst += count * To::kSize;
      n -= count;
    }
    return overflows + CastOneByOne<From, To>(src, dst, n);
  }
};

}  // namespace

CastFn FindAvx2(DType from, DType to) { return Find<Avx2Kernel>(from, to); }

bool HasAvx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c"); }

}  // namespace reshard::cast_kernels

#else

namespace reshard::cast_kernels {

CastFn FindAvx2(DType, DType) { return nullptr; }
bool HasAvx2() { return false; }

}  // namespace reshard::cast_kernels

#endif
