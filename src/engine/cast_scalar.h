#ifndef RESHARD_ENGINE_CAST_SCALAR_H_
#define RESHARD_ENGINE_CAST_SCALAR_H_

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/endian.h"
#include "engine/cast_kernels.h"

/// One element at a time: the whole of the scalar implementation, and the tail of the others.
namespace reshard::cast_kernels {

inline float FloatFromHalf(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = half >> 10 & 0x1F;
  const uint32_t mantissa = half & 0x3FF;
  if (exponent == 0)  // subnormal in float16, never in float32: the product is exact
    return std::bit_cast<float>(std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f) |
                                sign);
  const uint32_t widened = exponent == 0x1F ? 0xFF : exponent + 112;
  return std::bit_cast<float>(sign | widened << 23 | mantissa << 13);
}

inline uint16_t HalfFromFloat(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  uint32_t half = 0;
  if (magnitude > 0x7F800000) {
    half = 0x7E00;  // NaN
  } else if (magnitude >= 0x477FF000) {
    half = 0x7C00;  // rounds to infinity
  } else if (magnitude >= 0x38800000) {
    // Normal in float16: the exponent is rebiased, and what is added before the low 13 bits are
    // dropped carries into the ones kept exactly where rounding to even goes up.
    half = (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13;
  } else if (magnitude > 0x33000000) {  // half of the smallest subnormal is a tie, to zero
    const uint32_t shift = 126 - (magnitude >> 23);
    const uint32_t mantissa = (magnitude & 0x7FFFFF) | 0x800000;
    half = (mantissa + (1u << (shift - 1)) - 1 + (mantissa >> shift & 1)) >> shift;
  }
  return static_cast<uint16_t>(sign | half);
}

inline uint16_t BFloatFromFloat(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);  // NaN
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

template <typename T>
inline float LoadFloat(const std::byte* src) {
  if constexpr (T::kType == DType::kFloat16) {
    return FloatFromHalf(LoadLittle<uint16_t>(src));
  } else if constexpr (T::kType == DType::kBFloat16) {
    return std::bit_cast<float>(uint32_t{LoadLittle<uint16_t>(src)} << 16);
  } else if constexpr (T::kType == DType::kFloat32) {
    return std::bit_cast<float>(LoadLittle<uint32_t>(src));
  } else {
    return static_cast<float>(std::bit_cast<double>(LoadLittle<uint64_t>(src)));
  }
}

template <typename T>
inline void StoreFloat(float value, std::byte* dst) {
  if constexpr (T::kType == DType::kFloat16) {
    StoreLittle(HalfFromFloat(value), dst);
  } else if constexpr (T::kType == DType::kBFloat16) {
    StoreLittle(BFloatFromFloat(value), dst);
  } else if constexpr (T::kType == DType::kFloat32) {
    StoreLittle(std::bit_cast<uint32_t>(value), dst);
  } else {
    StoreLittle(std::bit_cast<uint64_t>(static_cast<double>(value)), dst);
  }
}

template <typename T>
inline bool IsInfinite(const std::byte* src) {
  if constexpr (T::kType == DType::kFloat64) {
    return std::isinf(std::bit_cast<double>(LoadLittle<uint64_t>(src)));
  } else {
    return std::isinf(LoadFloat<T>(src));
  }
}

/// Converts n elements, and counts.
template <typename From, typename To>
inline size_t CastOneByOne(const std::byte* src, std::byte* dst, size_t n) {
  size_t overflows = 0;
  for (size_t i = 0; i < n; ++i, src += From::kSize, dst += To::kSize) {
    const float value = LoadFloat<From>(src);
    StoreFloat<To>(value, dst);
    if constexpr (kCanOverflow<From, To>)
      overflows += std::fabs(value) >= To::kOverflow && !IsInfinite<From>(src);
  }
  return overflows;
}

/// Only counts.
template <typename From, typename To>
inline size_t CountOverflows(const std::byte* src, size_t n) {
  size_t overflows = 0;
  for (size_t i = 0; i < n; ++i, src += From::kSize)
    overflows += std::fabs(LoadFloat<From>(src)) >= To::kOverflow && !IsInfinite<From>(src);
  return overflows;
}

}  // namespace reshard::cast_kernels

#endif  // RESHARD_ENGINE_CAST_SCALAR_H_
