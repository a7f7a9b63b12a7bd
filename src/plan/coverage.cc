#include "plan/coverage.h"

#include <algorithm>
#include <span>

#include "base/try.h"
#include "view/catalog_builder.h"

namespace reshard {
namespace {

// No layout of a model comes near these.
constexpr int kMaxDepth = 64;
constexpr size_t kMaxRegions = size_t{1} << 24;

// Merges the loops along each dimension where one takes up the other's end. False where a dimension
// is left with more than a loop of step 1.
bool MergeLoops(Region* region) {
  auto& loops = region->loops;
  std::ranges::sort(loops, [](const Loop& a, const Loop& b) {
    return a.dim != b.dim ? a.dim < b.dim : a.step > b.step;
  });
  size_t kept = 0;
  for (const Loop& loop : loops) {
    if (kept > 0 && loops[kept - 1].dim == loop.dim &&
        loops[kept - 1].step == loop.step * loop.extent)
      loops[kept - 1] = {loops[kept - 1].extent * loop.extent, 0, loop.dim, loop.step};
    else
      loops[kept++] = loop;
  }
  loops.resize(kept);
  for (size_t i = 0; i < kept; ++i)
    if (loops[i].step > 1 || (i > 0 && loops[i - 1].dim == loops[i].dim)) return false;
  return true;
}

// A dimension in which some regions have gaps, and the longest step there.
struct Stride {
  size_t dim = 0;
  int64_t step = 1;
};

Stride LongestStride(std::span<const Region> regions) {
  Stride longest;
  for (const Region& region : regions)
    for (const Loop& loop : region.loops)
      if (loop.step > longest.step) longest = {loop.dim, loop.step};
  return longest;
}

void AppendBox(const Region& region, size_t rank, std::vector<int64_t>* boxes) {
  boxes->insert(boxes->end(), region.start.begin(), region.start.end());
  boxes->insert(boxes->end(), rank, 1);
  for (const Loop& loop : region.loops) (*boxes)[boxes->size() - rank + loop.dim] = loop.extent;
}

bool BoxesCover(const Shape& shape, std::span<const int64_t> boxes, size_t count, size_t times) {
  const size_t rank = shape.size();
  std::vector<BoxView> views;
  views.reserve(count);
  for (size_t i = 0; i < count; ++i)
    views.push_back({boxes.subspan(2 * rank * i, rank), boxes.subspan(2 * rank * i + rank, rank)});
  return CheckTiling(shape, views, times).has_value();
}

bool Covers(const Shape& shape, std::vector<Region> regions, size_t times, int depth);

// The parts of the regions within [begin, end) along `dim`, counted from there.
std::vector<Region> Clip(std::span<const Region> regions, size_t dim, int64_t begin, int64_t end) {
  std::vector<Region> clipped;
  for (const Region& region : regions)
    (void)ClipAlong(region, dim, begin, end, [&](const Region& part) -> Result<> {
      clipped.push_back(part);
      clipped.back().start[dim] -= begin;
      return {};
    });
  return clipped;
}

// Splits the dimension in two, [length / step, step]: strides of that step become boxes.
bool CoversRefined(const Shape& shape, std::span<const Region> regions, Stride stride, size_t times,
                   int depth) {
  Shape refined = shape;
  refined[stride.dim] /= stride.step;
  refined.insert(refined.begin() + static_cast<std::ptrdiff_t>(stride.dim) + 1, stride.step);
  std::vector<Region> pieces;
  for (const Region& region : regions) {
    (void)ReshapeRegion(region, shape, refined, [&](const Region& piece) -> Result<> {
      pieces.push_back(piece);
      return {};
    });
    if (pieces.size() > kMaxRegions) return false;
  }
  return Covers(refined, std::move(pieces), times, depth + 1);
}

// Regions that reach over one another along the strided dimension are looked at together: strides
// of another part of it count from another start.
bool CoversStrided(const Shape& shape, std::vector<Region> regions, Stride stride, size_t times,
                   int depth) {
  const size_t dim = stride.dim;
  std::ranges::sort(regions, {},
                    [&](const Region& region) { return ReachAlong(region, dim).first; });
  Shape part = shape;
  int64_t begin = 0;
  for (size_t i = 0; i < regions.size();) {
    const size_t first = i;
    if (ReachAlong(regions[i], dim).first != begin) return false;
    int64_t end = begin + 1;
    for (; i < regions.size() && ReachAlong(regions[i], dim).first < end; ++i)
      end = std::max(end, ReachAlong(regions[i], dim).last + 1);
    const auto together = std::span(regions).subspan(first, i - first);
    for (Region& region : together) region.start[dim] -= begin;
    part[dim] = end - begin;
    const int64_t rest = part[dim] % stride.step;
    if (part[dim] < shape[dim]) {
      if (!Covers(part, {together.begin(), together.end()}, times, depth + 1)) return false;
    } else if (rest == 0) {
      return CoversRefined(shape, together, stride, times, depth);
    } else {
      const int64_t whole = part[dim] - rest;
      part[dim] = rest;
      if (!Covers(part, Clip(together, dim, whole, whole + rest), times, depth + 1)) return false;
      part[dim] = whole;
      return Covers(part, Clip(together, dim, 0, whole), times, depth + 1);
    }
    begin = end;
  }
  return begin == shape[dim];
}

// Sure where true; false also where the pattern is too intricate to tell.
bool Covers(const Shape& shape, std::vector<Region> regions, size_t times, int depth) {
  __int128 left = static_cast<__int128>(times);
  for (int64_t extent : shape) left *= extent;
  for (const Region& region : regions) left -= region.numel();
  if (left != 0 || depth > kMaxDepth || regions.size() > kMaxRegions) return false;
  bool all_boxes = true;
  for (Region& region : regions) all_boxes &= MergeLoops(&region);
  if (!all_boxes) {
    const Stride stride = LongestStride(regions);
    return stride.step > 1 && CoversStrided(shape, std::move(regions), stride, times, depth);
  }
  std::vector<int64_t> boxes;
  boxes.reserve(regions.size() * 2 * shape.size());
  for (const Region& region : regions) AppendBox(region, shape.size(), &boxes);
  return BoxesCover(shape, boxes, regions.size(), times);
}

}  // namespace

void Coverage::Add(const Region& region) {
  taken_ += region.numel();
  Region merged = region;
  if (!MergeLoops(&merged)) {
    strided_.push_back(std::move(merged));
    return;
  }
  AppendBox(merged, shape_.size(), &boxes_);
  ++box_count_;
}

void Coverage::Add(const Coverage& other, size_t times) {
  taken_ += other.taken_ * static_cast<__int128>(times);
  box_count_ += other.box_count_ * times;
  for (size_t i = 0; i < times; ++i) {
    boxes_.insert(boxes_.end(), other.boxes_.begin(), other.boxes_.end());
    strided_.insert(strided_.end(), other.strided_.begin(), other.strided_.end());
  }
}

std::vector<Region> Coverage::Regions() const {
  const size_t rank = shape_.size();
  std::vector<Region> regions = strided_;
  for (size_t i = 0; i < box_count_; ++i) {
    const int64_t* box = boxes_.data() + 2 * rank * i;
    Region& region = regions.emplace_back();
    region.start.assign(box, box + rank);
    for (size_t dim = 0; dim < rank; ++dim)
      if (box[rank + dim] > 1) region.loops.push_back({.extent = box[rank + dim], .dim = dim});
  }
  return regions;
}

std::optional<Coverage::Fault> Coverage::FindFault(size_t times) const {
  if (strided_.empty() ? BoxesCover(shape_, boxes_, box_count_, times)
                       : Covers(shape_, Regions(), times, 0))
    return std::nullopt;
  // Halve the tensor, and go on with a half that is at fault, down to an element.
  std::vector<Region> regions = Regions();
  Fault fault{.element = Shape(shape_.size(), 0)};
  for (Shape size = shape_;;) {
    const auto widest = std::ranges::max_element(size);
    if (widest == size.end() || *widest == 1) break;
    const auto dim = static_cast<size_t>(widest - size.begin());
    const int64_t whole = *widest, half = whole / 2;
    size[dim] = half;
    std::vector<Region> lower = Clip(regions, dim, 0, half);
    if (!Covers(size, lower, times, 0)) {
      regions = std::move(lower);
      continue;
    }
    regions = Clip(regions, dim, half, whole);
    fault.element[dim] += half;
    size[dim] = whole - half;
  }
  fault.taken = regions.size();
  return fault;
}

bool Takes(const Region& region, std::span<const int64_t> element) {
  std::vector<Region> parts{region};
  for (size_t dim = 0; dim < element.size(); ++dim)
    parts = Clip(parts, dim, element[dim], element[dim] + 1);
  return !parts.empty();
}

}  // namespace reshard
