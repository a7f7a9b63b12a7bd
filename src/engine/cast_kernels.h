#ifndef RESHARD_ENGINE_CAST_KERNELS_H_
#define RESHARD_ENGINE_CAST_KERNELS_H_

#include <cstddef>
#include <limits>

#include "engine/cast.h"

/// The implementations behind FindCast, for it and for tests. Their contract is that of CastFn.
namespace reshard::cast_kernels {

/// Any machine. Null where a type is not castable, or where they are the same.
CastFn FindScalar(DType from, DType to);

/// AVX2 and F16C. Null as above; call the function only where HasAvx2().
CastFn FindAvx2(DType from, DType to);
bool HasAvx2();

/// Element types, each with the float32 magnitude from which on a value becomes infinite in it.
struct Float16 {
  static constexpr DType kType = DType::kFloat16;
  static constexpr size_t kSize = 2;
  static constexpr float kOverflow = 65520.0f;
};
struct BFloat16 {
  static constexpr DType kType = DType::kBFloat16;
  static constexpr size_t kSize = 2;
  static constexpr float kOverflow = 0x1.FFp127f;
};
struct Float32 {
  static constexpr DType kType = DType::kFloat32;
  static constexpr size_t kSize = 4;
  static constexpr float kOverflow = std::numeric_limits<float>::infinity();
};
struct Float64 {
  static constexpr DType kType = DType::kFloat64;
  static constexpr size_t kSize = 8;
  static constexpr float kOverflow = std::numeric_limits<float>::infinity();
};

/// True where a finite From can become an infinite To.
template <typename From, typename To>
inline constexpr bool kCanOverflow = From::kType == DType::kFloat64 ||
                                     (To::kSize == 2 && (From::kType == DType::kFloat32 ||
                                                         From::kType == DType::kBFloat16));

/// `Kernel<From, To>::Run` for a pair of different castable types, else null.
template <template <typename, typename> class Kernel>
CastFn Find(DType from, DType to) {
  static constexpr CastFn kTable[4][4] = {
      {nullptr, Kernel<Float16, BFloat16>::Run, Kernel<Float16, Float32>::Run,
       Kernel<Float16, Float64>::Run},
      {Kernel<BFloat16, Float16>::Run, nullptr, Kernel<BFloat16, Float32>::Run,
       Kernel<BFloat16, Float64>::Run},
      {Kernel<Float32, Float16>::Run, Kernel<Float32, BFloat16>::Run, nullptr,
       Kernel<Float32, Float64>::Run},
      {Kernel<Float64, Float16>::Run, Kernel<Float64, BFloat16>::Run, Kernel<Float64, Float32>::Run,
       nullptr},
  };
  if (!IsCastable(from) || !IsCastable(to)) return nullptr;
  constexpr int kFirst = static_cast<int>(DType::kFloat16);
  return kTable[static_cast<int>(from) - kFirst][static_cast<int>(to) - kFirst];
}
static_assert(static_cast<int>(DType::kFloat64) == static_cast<int>(DType::kFloat16) + 3);

}  // namespace reshard::cast_kernels

#endif  // RESHARD_ENGINE_CAST_KERNELS_H_
