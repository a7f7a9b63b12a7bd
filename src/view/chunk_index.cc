#include "view/chunk_index.h"

#include <algorithm>

#include "base/try.h"

namespace reshard {
namespace {

// Calls `emit` for the parts of `region` that lie in `box`, counted from its corner.
Result<> ClipToBox(const BoxView& box, const Region& region, size_t dim, const RegionFn& emit) {
  if (dim == box.start.size()) return emit(region);
  const int64_t begin = box.start[dim];
  return ClipAlong(region, dim, begin, begin + box.extent[dim], [&](const Region& part) {
    Region inner = part;
    inner.start[dim] -= begin;
    return ClipToBox(box, inner, dim + 1, emit);
  });
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
  int64_t last = 0;
  if (!tensor.shape.empty()) {
    const auto row = [&](const Chunk& c) { return catalog_.Box(tensor, c).start[0]; };
    const Reach rows = ReachAlong(region, 0);
    last = rows.last;
    chunk = std::ranges::upper_bound(chunks, rows.first - longest_[region.source], {}, row);
  }
  for (; chunk != chunks.end(); ++chunk) {
    const BoxView box = catalog_.Box(tensor, *chunk);
    if (!tensor.shape.empty() && box.start[0] > last) break;
    const auto number = tensor.first_chunk + static_cast<uint32_t>(chunk - chunks.begin());
    RESHARD_TRY(ClipToBox(box, region, 0, [&](const Region& part) {
      return emit({.chunk = number, .region = part});
    }));
  }
  return {};
}

}  // namespace reshard
