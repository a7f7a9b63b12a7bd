// The folding of V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
// Instruction" (Intel, 2009), with its constants for the reflected polynomial.

#include "engine/crc32.h"

#include <zlib.h>

#if defined(__x86_64__)

#include <immintrin.h>

#define RESHARD_CLMUL __attribute__((target("pclmul,sse4.1")))
#define RESHARD_WIDE_CLMUL __attribute__((target("pclmul,sse4.1,avx2,vpclmulqdq")))

namespace reshard {
namespace {

constexpr size_t kLane = sizeof(__m128i);
constexpr size_t kLanes = 4;
constexpr size_t kStride = kLane * kLanes;
constexpr size_t kWideStride = 2 * kStride;

// A polynomial modulo the CRC's, x^n for a fold over n bits; low half, then high half.
struct Constants {
  uint64_t low;
  uint64_t high;
};
constexpr Constants kFoldWide{0x1e88ef372, 0x14a7fe880};
constexpr Constants kFoldStride{0x154442bd4, 0x1c6e41596};
constexpr Constants kFoldLane{0x1751997d0, 0x0ccaa009e};
constexpr Constants kFoldHalf{0x163cd6124, 0};
constexpr Constants kBarrett{0x1db710641, 0x1f7011641};

RESHARD_CLMUL inline __m128i Vector(Constants constants) {
  return _mm_set_epi64x(static_cast<int64_t>(constants.high), static_cast<int64_t>(constants.low));
}

RESHARD_CLMUL inline __m128i Load(const std::byte* bytes) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}

// Moves `sum` over the bits that `constants` stand for and adds `next`.
RESHARD_CLMUL inline __m128i Fold(__m128i sum, __m128i constants, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(sum, constants, 0x00);
  const __m128i high = _mm_clmulepi64_si128(sum, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

// 128 bits to the 32 of the CRC.
RESHARD_CLMUL inline uint32_t Reduce(__m128i sum) {
  const __m128i low_words = _mm_setr_epi32(-1, 0, -1, 0);
  sum = _mm_xor_si128(_mm_srli_si128(sum, 8), _mm_clmulepi64_si128(sum, Vector(kFoldLane), 0x10));
  sum = _mm_xor_si128(_mm_srli_si128(sum, 4),
                      _mm_clmulepi64_si128(_mm_and_si128(sum, low_words), Vector(kFoldHalf), 0x00));
  const __m128i barrett = Vector(kBarrett);
  __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(sum, low_words), barrett, 0x10);
  quotient = _mm_clmulepi64_si128(_mm_and_si128(quotient, low_words), barrett, 0x00);
  return static_cast<uint32_t>(_mm_extract_epi32(_mm_xor_si128(sum, quotient), 1));
}

// `size` is a multiple of kLane, and at least kStride.
RESHARD_CLMUL uint32_t FoldAll(uint32_t crc, const std::byte* bytes, size_t size) {
  __m128i sums[kLanes];
  for (size_t i = 0; i < kLanes; ++i) sums[i] = Load(bytes + i * kLane);
  sums[0] = _mm_xor_si128(sums[0], _mm_cvtsi32_si128(static_cast<int>(~crc)));
  size_t at = kStride;
  const __m128i over_stride = Vector(kFoldStride), over_lane = Vector(kFoldLane);
  for (; at + kStride <= size; at += kStride)
    for (size_t i = 0; i < kLanes; ++i)
      sums[i] = Fold(sums[i], over_stride, Load(bytes + at + i * kLane));
  __m128i sum = sums[0];
  for (size_t i = 1; i < kLanes; ++i) sum = Fold(sum, over_lane, sums[i]);
  for (; at < size; at += kLane) sum = Fold(sum, over_lane, Load(bytes + at));
  return ~Reduce(sum);
}

RESHARD_WIDE_CLMUL inline __m256i LoadTwo(const std::byte* bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

// The same with two lanes in each register, as newer processors multiply them. `size` is a multiple
// of kLane, and at least kWideStride.
RESHARD_WIDE_CLMUL uint32_t FoldAllWide(uint32_t crc, const std::byte* bytes, size_t size) {
  __m256i sums[kLanes];
  for (size_t i = 0; i < kLanes; ++i) sums[i] = LoadTwo(bytes + i * 2 * kLane);
  sums[0] = _mm256_xor_si256(
      sums[0], _mm256_zextsi128_si256(_mm_cvtsi32_si128(static_cast<int>(~crc))));
  const __m256i over_wide = _mm256_broadcastsi128_si256(Vector(kFoldWide));
  size_t at = kWideStride;
  for (; at + kWideStride <= size; at += kWideStride)
    for (size_t i = 0; i < kLanes; ++i) {
      const __m256i low = _mm256_clmulepi64_epi128(sums[i], over_wide, 0x00);
      const __m256i high = _mm256_clmulepi64_epi128(sums[i], over_wide, 0x11);
      sums[i] = _mm256_xor_si256(_mm256_xor_si256(low, high), LoadTwo(bytes + at + i * 2 * kLane));
    }
  const __m128i over_lane = Vector(kFoldLane);
  __m128i sum = _mm256_castsi256_si128(sums[0]);
  sum = Fold(sum, over_lane, _mm256_extracti128_si256(sums[0], 1));
  for (size_t i = 1; i < kLanes; ++i) {
    sum = Fold(sum, over_lane, _mm256_castsi256_si128(sums[i]));
    sum = Fold(sum, over_lane, _mm256_extracti128_si256(sums[i], 1));
  }
  for (; at < size; at += kLane) sum = Fold(sum, over_lane, Load(bytes + at));
  return ~Reduce(sum);
}

}  // namespace

uint32_t UpdateCrc32(uint32_t crc, std::span<const std::byte> bytes) {
  const bool wide = __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx2");
  if (wide && bytes.size() >= kWideStride) {
    const size_t whole = bytes.size() / kLane * kLane;
    crc = FoldAllWide(crc, bytes.data(), whole);
    bytes = bytes.subspan(whole);
  }
  const bool folds = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  if (folds && bytes.size() >= kStride) {
    const size_t whole = bytes.size() / kLane * kLane;
    crc = FoldAll(crc, bytes.data(), whole);
    bytes = bytes.subspan(whole);
  }
  return static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace reshard

#else

namespace reshard {

uint32_t UpdateCrc32(uint32_t crc, std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace reshard

#endif
