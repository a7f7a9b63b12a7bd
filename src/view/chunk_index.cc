#include "view/chunk_index.h"

#include <algorithm>

#include "base/try.h"

namespace reshard {
namespace {

// The values i of a loop for which start + i * step lies in [begin, end).
struct Range {
  int64_t first;
  int64_t count;
};

Range Inside(int64_t start, int64_t extent, int64_t step, int64_t begin, int64_t end) {
  const int64_t first = begin <= start ? 0 : (begin - start + step - 1) / step;
  const int64_t last = end <= start ? 0 : std::min(extent, (end - start + step - 1) / step);
  return {first, std::max<int64_t>(last - first, 0)};
}

// Leaves the part of `region` that lies in `box`; false where there is none.
bool Clip(const BoxView& box, Region* region) {
  for (size_t dim = 0; dim < box.start.size(); ++dim) {
    const int64_t begin = box.start[dim], end = begin + box.extent[dim];
    const auto loop = std::ranges::find(region->loops, dim, &Loop::dim);
    if (loop == region->loops.end()) {
      if (region->start[dim] < begin || region->start[dim] >= end) return false;
    } else {
      const Range range = Inside(region->start[dim], loop->extent, loop->step, begin, end);
      if (range.count == 0) return false;
      region->start[dim] += range.first * loop->step;
      region->dst += range.first * loop->dst_stride;
      loop->extent = range.count;
    }
    region->start[dim] -= begin;
  }
  return true;
}

}  // namespace

ChunkIndex::ChunkIndex(const Catalog& catalog) : catalog_(catalog) {
  longest_.reserve(catalog.tensors().size());
  for (const Tensor& tensor : catalog.tensors()) {
    int64_t longest = 1;
    if (!tensor.shape.empty())
      for (const Chunk& chunk : catalog.chunks(tensor))
        longest = std::max(longest, catalog.Box(tensor, chunk).extent[0]);
    longest_.push_back(longest);
  }
}

Result<> ChunkIndex::Cut(const Region& region,
                         const std::function<Result<>(const Piece&)>& emit) const {
  const Tensor& tensor = catalog_.tensors()[region.source];
  const auto chunks = catalog_.chunks(tensor);
  auto chunk = chunks.begin();
  int64_t end = 1;
  if (!tensor.shape.empty()) {
    const auto row = [&](const Chunk& c) { return catalog_.Box(tensor, c).start[0]; };
    const auto loop = std::ranges::find(region.loops, size_t{0}, &Loop::dim);
    end = region.start[0] + 1;
    if (loop != region.loops.end()) end += (loop->extent - 1) * loop->step;
    chunk = std::ranges::upper_bound(chunks, region.start[0] - longest_[region.source], {}, row);
  }
  Piece piece;
  for (; chunk != chunks.end(); ++chunk) {
    const BoxView box = catalog_.Box(tensor, *chunk);
    if (!tensor.shape.empty() && box.start[0] >= end) break;
    piece.region = region;
    if (!Clip(box, &piece.region)) continue;
    piece.chunk = tensor.first_chunk + static_cast<uint32_t>(chunk - chunks.begin());
    RESHARD_TRY(emit(piece));
  }
  return {};
}

}  // namespace reshard
