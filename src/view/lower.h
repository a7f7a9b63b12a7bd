#ifndef RESHARD_VIEW_LOWER_H_
#define RESHARD_VIEW_LOWER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "reshard/error.h"
#include "view/view.h"

namespace reshard {

/// One loop of a nest: `extent` elements along dimension `dim` of what is read, and where they go.
struct Loop {
  int64_t extent = 1;
  int64_t dst_stride = 0;  ///< elements of the target
  size_t dim = 0;          ///< dimension of the source
  int64_t step = 1;        ///< elements along that dimension

  bool operator==(const Loop&) const = default;
};

/// A box of the target, pulled back to one source tensor: for all loop counters i,
/// target[dst + sum(i * dst_stride)] = source[start + sum(i * step along dim)]. At most one loop a
/// dimension; dimensions without a loop stay at their start.
struct Region {
  uint32_t source = 0;         ///< tensor of the catalog
  DType source_dtype = DType::kFloat32;
  int64_t dst = 0;             ///< first target element, counted from the pulled box's own origin
  std::vector<int64_t> start;  ///< first source element, one coordinate a dimension
  std::vector<Loop> loops;     ///< outermost first

  int64_t numel() const;
};

using RegionFn = std::function<Result<>(const Region&)>;

/// Pulls the box [start, start + extent) of `view` back to its sources: calls `emit` for regions
/// that write each element of the box exactly once. `dst_strides` says where the box's elements lie
/// in the caller's buffer, in elements, one stride a dimension. How many regions there are depends
/// on the view's nodes, never on how large the tensors are.
Result<> Lower(const View& view, std::span<const int64_t> start, std::span<const int64_t> extent,
               std::span<const int64_t> dst_strides, const RegionFn& emit);

/// The same for all of the view, in row-major order.
Result<> LowerWhole(const View& view, const RegionFn& emit);

/// Row-major strides of a shape, in elements.
std::vector<int64_t> RowMajorStrides(std::span<const int64_t> shape);

/// Cuts elements [begin, end) of the row-major order of `shape` into boxes: at most 2 * rank - 1.
/// `emit` gets start and extent of each box, in order.
Result<> CutRange(std::span<const int64_t> shape, int64_t begin, int64_t end,
                  const std::function<Result<>(BoxView)>& emit);

}  // namespace reshard

#endif  // RESHARD_VIEW_LOWER_H_
