#include "view/lower.h"

#include <algorithm>

#include "base/checked_math.h"
#include "base/try.h"

namespace reshard {
namespace {

Result<> Pull(const View& view, Region region, const RegionFn& emit);

// Hands the parts of the region along the concatenated dimension to the inputs.
Result<> PullConcat(const View& view, const Region& region, const RegionFn& emit) {
  const size_t dim = view.dim();
  const auto [first, last] = ReachAlong(region, dim);
  const auto starts = view.starts();
  auto part = std::ranges::upper_bound(starts, first) - starts.begin() - 1;
  for (; part < std::ssize(starts) && starts[part] <= last; ++part) {
    const View& input = view.inputs()[part];
    const int64_t start = starts[part], end = start + input.shape()[dim];
    RESHARD_TRY(ClipAlong(region, dim, start, end, [&](const Region& piece) {
      Region own = piece;
      own.start[dim] -= start;
      return Pull(input, std::move(own), emit);
    }));
  }
  return {};
}

Result<> PullPermute(const View& view, Region region, const RegionFn& emit) {
  const auto dims = view.dims();
  std::vector<int64_t> start(dims.size());
  for (size_t dim = 0; dim < dims.size(); ++dim) start[dims[dim]] = region.start[dim];
  region.start = std::move(start);
  for (Loop& loop : region.loops) loop.dim = dims[loop.dim];
  return Pull(view.inputs()[0], std::move(region), emit);
}

Result<> Pull(const View& view, Region region, const RegionFn& emit) {
  switch (view.op()) {
    case View::Op::kSource:
    case View::Op::kFill:
      region.source = view.op() == View::Op::kFill ? Region::kFill : view.source();
      region.source_dtype = view.dtype();
      region.fill = view.value();
      return emit(region);
    case View::Op::kSlice:
      region.start[view.dim()] += view.start();
      return Pull(view.inputs()[0], std::move(region), emit);
    case View::Op::kConcat:
      return PullConcat(view, region, emit);
    case View::Op::kReshape:
      return ReshapeRegion(
          region, view.shape(), view.inputs()[0].shape(),
          [&](const Region& piece) { return Pull(view.inputs()[0], piece, emit); });
    case View::Op::kPermute:
      return PullPermute(view, std::move(region), emit);
    case View::Op::kRepeat:
      region.repeats = true;
      return Pull(view.inputs()[0], std::move(region), emit);
    case View::Op::kDequantize:
      region.dequantize = &view;
      return Pull(view.inputs()[0], std::move(region), emit);
    case View::Op::kCast: return Pull(view.inputs()[0], std::move(region), emit);
  }
  return {};
}

}  // namespace

Result<> Lower(const View& view, std::span<const int64_t> start, std::span<const int64_t> extent,
               std::span<const int64_t> dst_strides, const RegionFn& emit) {
  Region region;
  region.start.assign(start.begin(), start.end());
  for (size_t dim = 0; dim < extent.size(); ++dim) {
    if (extent[dim] == 0) return {};
    if (extent[dim] > 1)
      region.loops.push_back(
          {.extent = extent[dim], .dst_stride = dst_strides[dim], .dim = dim, .step = 1});
  }
  return Pull(view, std::move(region), emit);
}

Result<> LowerWhole(const View& view, const RegionFn& emit) {
  const Shape& shape = view.shape();
  return Lower(view, Shape(shape.size(), 0), shape, RowMajorStrides(shape), emit);
}

Region ScalesOf(const Region& region) {
  const View& scales = region.dequantize->inputs()[1];
  const auto block = region.dequantize->block();
  Region box{.source = scales.source(),
             .source_dtype = scales.dtype(),
             .start = Shape(scales.shape().size(), 0)};
  if (CheckedNumel(scales.shape()) == 1) return box;
  int64_t stride = 1;
  for (size_t dim = block.size(); dim-- > 0;) {
    const auto [first, last] = ReachAlong(region, dim);
    box.start[dim] = first / block[dim];
    const int64_t extent = last / block[dim] - box.start[dim] + 1;
    if (extent == 1) continue;
    box.loops.insert(box.loops.begin(), {.extent = extent, .dst_stride = stride, .dim = dim});
    stride *= extent;
  }
  return box;
}

Result<> CutRange(std::span<const int64_t> shape, int64_t begin, int64_t end,
                  const std::function<Result<>(BoxView)>& emit) {
  const size_t rank = shape.size();
  if (rank == 0) return begin < end ? emit({}) : Result<>{};
  const std::vector<int64_t> strides = RowMajorStrides(shape);
  std::vector<int64_t> start(rank), extent(rank);
  while (begin < end) {
    int64_t rest = begin;
    for (size_t dim = 0; dim < rank; ++dim) {
      start[dim] = rest / strides[dim];
      rest %= strides[dim];
    }
    // The largest box from here: whole rows of the outermost dimension that begins one.
    size_t dim = rank - 1;
    while (dim > 0 && start[dim] == 0 && end - begin >= strides[dim - 1]) --dim;
    const int64_t count = std::min((end - begin) / strides[dim], shape[dim] - start[dim]);
    for (size_t i = 0; i < rank; ++i) extent[i] = i < dim ? 1 : i == dim ? count : shape[i];
    RESHARD_TRY(emit({start, extent}));
    begin += count * strides[dim];
  }
  return {};
}

}  // namespace reshard
