#ifndef RESHARD_VIEW_REGION_H_
#define RESHARD_VIEW_REGION_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "reshard/dtype.h"
#include "reshard/error.h"

namespace reshard {

class View;

/// One loop of a nest: `extent` elements along dimension `dim` of what is read, and where they go.
struct Loop {
  int64_t extent = 1;
  int64_t dst_stride = 0;  ///< elements of the target
  size_t dim = 0;          ///< dimension of the source
  int64_t step = 1;        ///< elements along that dimension; positive

  bool operator==(const Loop&) const = default;
};

/// A box of the target, pulled back to one source tensor: for all loop counters i,
/// target[dst + sum(i * dst_stride)] = source[start + sum(i * step along dim)]. A dimension may
/// have several loops; without a loop it stays at its start.
struct Region {
  static constexpr uint32_t kFill = UINT32_MAX;  ///< as `source`: every element is `fill`

  uint32_t source = 0;  ///< tensor of the catalog, or kFill
  DType source_dtype = DType::kFloat32;
  double fill = 0;
  bool repeats = false;        ///< through View::Repeat
  /// The View::Dequantize whose values these are; part of the view that was pulled.
  const View* dequantize = nullptr;
  int64_t dst = 0;             ///< first target element, counted from the pulled box's own origin
  std::vector<int64_t> start;  ///< first source element, one coordinate a dimension
  std::vector<Loop> loops;     ///< outermost first; none of one element

  int64_t numel() const;
};

using RegionFn = std::function<Result<>(const Region&)>;

/// Turns [first, first + count) of loop `index`, not none.
Region TurnsOf(const Region& region, size_t index, int64_t first, int64_t count);

/// Calls `emit` for the parts of `region` whose coordinate along `dim` lies in [begin, end);
/// coordinates stay as they are. One part where one loop runs along `dim`; a few more where a
/// boundary falls inside several.
Result<> ClipAlong(const Region& region, size_t dim, int64_t begin, int64_t end,
                   const RegionFn& emit);

/// The first and the last coordinate of the region along `dim`.
struct Reach {
  int64_t first = 0;
  int64_t last = 0;
};
Reach ReachAlong(const Region& region, size_t dim);

/// Re-expresses a region of a tensor of shape `from` in `to`, the shape of the same elements in
/// row-major order: calls `emit` for regions in `to`'s dimensions. A loop is cut only where a
/// boundary of `to` falls inside it, so how many regions there are depends on how the shapes divide
/// each other, not on how large they are.
Result<> ReshapeRegion(const Region& region, std::span<const int64_t> from,
                       std::span<const int64_t> to, const RegionFn& emit);

/// Row-major strides of a shape, in elements.
std::vector<int64_t> RowMajorStrides(std::span<const int64_t> shape);

}  // namespace reshard

#endif  // RESHARD_VIEW_REGION_H_
