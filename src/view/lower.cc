#include "view/lower.h"

#include <algorithm>

#include "base/try.h"

namespace reshard {
namespace {

Loop* FindLoop(Region& region, size_t dim) {
  const auto at = std::ranges::find(region.loops, dim, &Loop::dim);
  return at == region.loops.end() ? nullptr : &*at;
}

Result<> Pull(const View& view, Region region, const RegionFn& emit);

// Hands the parts of the region's interval along the concatenated dimension to the inputs.
Result<> PullConcat(const View& view, const Region& region, const RegionFn& emit) {
  const size_t dim = view.dim();
  const int64_t begin = region.start[dim];
  const Loop* loop = nullptr;
  for (const Loop& candidate : region.loops)
    if (candidate.dim == dim) loop = &candidate;
  const int64_t end = begin + (loop ? loop->extent : 1);

  const auto starts = view.starts();
  auto part = std::ranges::upper_bound(starts, begin) - starts.begin() - 1;
  for (; part < std::ssize(starts) && starts[part] < end; ++part) {
    const View& input = view.inputs()[part];
    const int64_t from = std::max(begin, starts[part]);
    const int64_t to = std::min(end, starts[part] + input.shape()[dim]);
    if (from >= to) continue;
    Region piece = region;
    piece.start[dim] = from - starts[part];
    if (Loop* own = FindLoop(piece, dim)) {
      piece.dst += (from - begin) * own->dst_stride;
      own->extent = to - from;
    }
    RESHARD_TRY(Pull(input, std::move(piece), emit));
  }
  return {};
}

Result<> Pull(const View& view, Region region, const RegionFn& emit) {
  switch (view.op()) {
    case View::Op::kSource:
      region.source = view.source();
      region.source_dtype = view.dtype();
      return emit(region);
    case View::Op::kSlice:
      region.start[view.dim()] += view.start();
      return Pull(view.inputs()[0], std::move(region), emit);
    case View::Op::kConcat: return PullConcat(view, region, emit);
    case View::Op::kCast: return Pull(view.inputs()[0], std::move(region), emit);
  }
  return {};
}

}  // namespace

int64_t Region::numel() const {
  int64_t count = 1;
  for (const Loop& loop : loops) count *= loop.extent;
  return count;
}

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

std::vector<int64_t> RowMajorStrides(std::span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t dim = shape.size(); dim-- > 0;) {
    strides[dim] = stride;
    stride *= std::max<int64_t>(shape[dim], 1);
  }
  return strides;
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
    const int64_t count =
        std::min((end - begin) / strides[dim], shape[dim] - start[dim]);
    for (size_t i = 0; i < rank; ++i) extent[i] = i < dim ? 1 : i == dim ? count : shape[i];
    RESHARD_TRY(emit({start, extent}));
    begin += count * strides[dim];
  }
  return {};
}

}  // namespace reshard
