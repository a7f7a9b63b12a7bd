#ifndef RESHARD_VIEW_LOWER_H_
#define RESHARD_VIEW_LOWER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "reshard/error.h"
#include "view/region.h"
#include "view/view.h"

namespace reshard {

/// Pulls the box [start, start + extent) of `view` back to its sources: calls `emit` for regions
/// that write each element of the box exactly once. `dst_strides` says where the box's elements lie
/// in the caller's buffer, in elements, one stride a dimension. How many regions there are depends
/// on the view's nodes, never on how large the tensors are.
Result<> Lower(const View& view, std::span<const int64_t> start, std::span<const int64_t> extent,
               std::span<const int64_t> dst_strides, const RegionFn& emit);

/// The same for all of the view, in row-major order.
Result<> LowerWhole(const View& view, const RegionFn& emit);

/// The scales of a dequantized region, as a region of their tensor: the smallest box that holds
/// them, row by row. Along each dimension of the values, scale number value / block.
Region ScalesOf(const Region& region);

/// Cuts elements [begin, end) of the row-major order of `shape` into boxes: at most 2 * rank - 1.
/// `emit` gets start and extent of each box, in order.
Result<> CutRange(std::span<const int64_t> shape, int64_t begin, int64_t end,
                  const std::function<Result<>(BoxView)>& emit);

}  // namespace reshard

#endif  // RESHARD_VIEW_LOWER_H_
