#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/checked_math.h"
#include "base/try.h"
#include "view/catalog_builder.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

// No honest sharding nests cuts deeper than a few levels, or needs more steps than this.
constexpr int kMaxDepth = 64;
constexpr int64_t kMaxSteps = int64_t{1} << 26;

Error TilingError(std::string found) {
  return Error{.kind = ErrorKind::kSource,
               .found = std::move(found),
               .expected = "chunks that cover the tensor exactly once",
               .help = "the checkpoint is damaged or incomplete: copy it again, or save it again"};
}

struct Interval {
  int64_t begin;
  int64_t end;
};

// A box as one interval per dimension, and how they are cut up: straight cuts first, in whatever
// dimension has one; where none has, every edge of one dimension becomes a cut.
class Tiler {
 public:
  Tiler(size_t rank, size_t times)
      : rank_(rank), times_(times), region_(rank), sliced_(rank, false) {}

  Interval& region(size_t dim) { return region_[dim]; }

  Result<> Check(std::span<const BoxView*> boxes, int depth) {
    steps_ += static_cast<int64_t>(boxes.size());
    if (depth > kMaxDepth || steps_ > kMaxSteps)
      return std::unexpected(TilingError("the chunks lie in too intricate a pattern to check"));
    if (boxes.size() < times_) return std::unexpected(Hole());
    if (boxes.size() == times_) {
      for (const BoxView* box : boxes) RESHARD_TRY(Fills(*box));
      return {};
    }
    for (size_t dim = 0; dim < rank_; ++dim) {
      if (sliced_[dim]) continue;
      RESHARD_ASSIGN(const bool cut, CutStraight(boxes, dim, depth));
      if (cut) return {};
    }
    const auto free = std::ranges::find(sliced_, false);
    if (free == sliced_.end())
      return std::unexpected(
          TilingError(fmt::format("{} chunks hold the element at {}", boxes.size(), Corner())));
    return SliceAtEveryEdge(boxes, static_cast<size_t>(free - sliced_.begin()), depth);
  }

 private:
  // Where a box is cut up by SliceAtEveryEdge, it is its part in the region that counts.
  Interval Part(const BoxView& box, size_t dim) const {
    const Interval whole{box.start[dim], box.start[dim] + box.extent[dim]};
    if (!sliced_[dim]) return whole;
    return {std::max(whole.begin, region_[dim].begin), std::min(whole.end, region_[dim].end)};
  }

  std::string Corner() const {
    std::vector<int64_t> corner;
    for (const Interval& interval : region_) corner.push_back(interval.begin);
    return ShapeText(corner);
  }

  Error Hole() const {
    return TilingError(fmt::format("no chunk holds the element at {}", Corner()));
  }

  Result<> Fills(const BoxView& box) const {
    for (size_t dim = 0; dim < rank_; ++dim) {
      const Interval part = Part(box, dim);
      if (part.begin > region_[dim].begin || part.end < region_[dim].end)
        return std::unexpected(TilingError(
            fmt::format("no chunk holds some elements beside the chunk at {} of size {}",
                        ShapeText(box.start), ShapeText(box.extent))));
    }
    return {};
  }

  // Parts the boxes by cuts across the whole region along `dim` and checks each part. False where
  // there is no such cut. A gap between two parts is left to the first of them, which will not fill
  // its region.
  Result<bool> CutStraight(std::span<const BoxView*> boxes, size_t dim, int depth) {
    std::ranges::sort(boxes, {}, [&](const BoxView* box) { return box->start[dim]; });
    std::vector<size_t> firsts{0};
    int64_t reach = Part(*boxes[0], dim).end;
    for (size_t i = 1; i < boxes.size(); ++i) {
      const Interval part = Part(*boxes[i], dim);
      if (part.begin >= reach) firsts.push_back(i);
      reach = std::max(reach, part.end);
    }
    if (firsts.size() == 1) return false;

    const Interval whole = region_[dim];
    for (size_t i = 0; i < firsts.size(); ++i) {
      const bool last = i + 1 == firsts.size();
      const size_t end = last ? boxes.size() : firsts[i + 1];
      region_[dim] = {i == 0 ? whole.begin : Part(*boxes[firsts[i]], dim).begin,
                      last ? whole.end : Part(*boxes[end], dim).begin};
      RESHARD_TRY(Check(boxes.subspan(firsts[i], end - firsts[i]), depth + 1));
    }
    region_[dim] = whole;
    return true;
  }

  Result<> SliceAtEveryEdge(std::span<const BoxView*> boxes, size_t dim, int depth) {
    const Interval whole = region_[dim];
    std::vector<int64_t> edges{whole.begin, whole.end};
    for (const BoxView* box : boxes) {
      const Interval part = Part(*box, dim);
      edges.push_back(std::max(part.begin, whole.begin));
      edges.push_back(std::min(part.end, whole.end));
    }
    std::ranges::sort(edges);
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    sliced_[dim] = true;
    for (size_t i = 0; i + 1 < edges.size(); ++i) {
      region_[dim] = {edges[i], edges[i + 1]};
      std::vector<const BoxView*> inside;
      steps_ += static_cast<int64_t>(boxes.size());
      for (const BoxView* box : boxes)
        if (box->start[dim] < edges[i + 1] && box->start[dim] + box->extent[dim] > edges[i])
          inside.push_back(box);
      RESHARD_TRY(Check(inside, depth + 1));
    }
    sliced_[dim] = false;
    region_[dim] = whole;
    return {};
  }

  size_t rank_;
  size_t times_;
  std::vector<Interval> region_;
  std::vector<bool> sliced_;
  int64_t steps_ = 0;
};

}  // namespace

Result<> CheckTiling(std::span<const int64_t> shape, std::span<const BoxView> boxes,
                     size_t times) {
  for (const BoxView& box : boxes)
    for (size_t dim = 0; dim < shape.size(); ++dim) {
      const auto end = CheckedAdd(box.start[dim], box.extent[dim]);
      if (box.start[dim] < 0 || box.extent[dim] < 0 || !end || *end > shape[dim])
        return std::unexpected(TilingError(
            fmt::format("the chunk at {} of size {} reaches outside the shape {}",
                        ShapeText(box.start), ShapeText(box.extent), ShapeText(shape))));
    }
  if (boxes.empty()) {
    if (std::ranges::find(shape, 0) != shape.end()) return {};
    return std::unexpected(TilingError("no chunk holds any of the tensor"));
  }

  Tiler tiler(shape.size(), times);
  for (size_t dim = 0; dim < shape.size(); ++dim) tiler.region(dim) = {0, shape[dim]};
  std::vector<const BoxView*> pointers;
  pointers.reserve(boxes.size());
  for (const BoxView& box : boxes) pointers.push_back(&box);
  return tiler.Check(pointers, 0);
}

}  // namespace reshard
