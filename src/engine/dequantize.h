#ifndef RESHARD_ENGINE_DEQUANTIZE_H_
#define RESHARD_ENGINE_DEQUANTIZE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/cast.h"
#include "engine/dequantize_kernels.h"
#include "view/region.h"

namespace reshard {

/// The values of all bytes of a float8 type, float8_e8m0fnu among them, in float32: exact.
const std::array<float, 256>& Float8Values(DType dtype);

/// How far apart the turns of each loop of a region lie where its elements are packed in the order of
/// its loops.
std::vector<int64_t> PackedStrides(const Region& region);

/// The scales of a region, once they are in memory.
struct ScaleGrid {
  const Region& box;            ///< what ScalesOf(the region) gives
  std::span<const float> values;  ///< of the box, row by row
};

/// Multiplies values with the scales of their blocks: in float32, then rounded as a cast does it.
/// Used by one thread.
class Dequantizer {
 public:
  /// `from` is a float8 type, `to` a castable one.
  Dequantizer(DType from, DType to);

  /// `values` are those of `region`, packed in the order of its loops; products go to `dst`, which its
  /// dst_strides count from. Gives the number of products that are infinite though both factors
  /// are finite.
  size_t Multiply(const Region& region, const std::byte* values, const ScaleGrid& scales,
                  std::byte* dst);

 private:
  struct Nest;
  void MultiplyRun(const std::byte* values, int64_t count, float scale, int64_t dst_stride,
                   std::byte* dst);
  void MultiplyLoop(const Nest& nest, size_t depth, std::vector<int64_t>* at,
                    const std::byte* values, std::byte* dst);

  const std::array<float, 256>& decoded_;
  dequantize_kernels::MultiplyFn multiply_;
  DType to_;
  CastFn cast_;
  size_t overflows_ = 0;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_DEQUANTIZE_H_
