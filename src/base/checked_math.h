#ifndef RESHARD_BASE_CHECKED_MATH_H_
#define RESHARD_BASE_CHECKED_MATH_H_

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

namespace reshard {

/// a + b and a * b, or nothing where the result does not fit the type.
template <std::integral T>
constexpr std::optional<T> CheckedAdd(T a, T b) {
  T out;
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

template <std::integral T>
constexpr std::optional<T> CheckedMul(T a, T b) {
  T out;
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

/// The number of elements of a tensor of this shape: 1 for no dimensions; nothing where a dimension
/// is negative or the product of the non-zero dimensions exceeds int64.
inline std::optional<int64_t> CheckedNumel(std::span<const int64_t> shape) {
  int64_t product = 1;
  bool empty = false;
  for (int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) {
      empty = true;
      continue;
    }
    auto next = CheckedMul(product, dim);
    if (!next) return std::nullopt;
    product = *next;
  }
  return empty ? 0 : product;
}

/// True where [offset, offset + length) lies within [0, size).
constexpr bool InRange(uint64_t offset, uint64_t length, uint64_t size) {
  return offset <= size && length <= size - offset;
}

}  // namespace reshard

#endif  // RESHARD_BASE_CHECKED_MATH_H_
