#include "view/region.h"

#include <algorithm>
#include <numeric>

#include "base/try.h"

namespace reshard {
namespace {

// The loop along `dim` that takes the longest steps, or the number of loops.
size_t WidestLoop(const Region& region, size_t dim) {
  size_t widest = region.loops.size();
  for (size_t i = 0; i < region.loops.size(); ++i)
    if (region.loops[i].dim == dim &&
        (widest == region.loops.size() || region.loops[i].step > region.loops[widest].step))
      widest = i;
  return widest;
}

int64_t CeilDiv(int64_t a, int64_t b) { return a / b + (a % b > 0); }

// Turns [first, first + count) of loop `index`; a loop of one turn is gone.
Region Turns(const Region& region, size_t index, int64_t first, int64_t count, int64_t* moved) {
  Region part = region;
  Loop& loop = part.loops[index];
  *moved += first * loop.step;
  part.dst += first * loop.dst_stride;
  loop.extent = count;
  if (count == 1) part.loops.erase(part.loops.begin() + static_cast<std::ptrdiff_t>(index));
  return part;
}

// A region whose place in the source is counted in elements of the row-major order: every loop's
// step is in the same unit. Gives out dimension after dimension of the new shape, outermost first.
class Reshaper {
 public:
  Reshaper(std::span<const int64_t> shape, const RegionFn& emit)
      : shape_(shape), strides_(RowMajorStrides(shape)), emit_(emit) {}

  // `loops` not yet placed have dim == kOpen; `at` is the offset that is left of the start.
  Result<> Place(Region region, int64_t at, size_t dim) {
    while (dim < shape_.size() && shape_[dim] == 1) region.start[dim++] = 0;
    if (dim == shape_.size()) return emit_(region);
    const int64_t stride = strides_[dim];
    int64_t span = at % stride;
    size_t widest = region.loops.size();
    for (size_t i = 0; i < region.loops.size(); ++i) {
      const Loop& loop = region.loops[i];
      if (loop.dim != kOpen || loop.step % stride == 0) continue;
      span += (loop.extent - 1) * loop.step;
      if (widest == region.loops.size() || loop.step > region.loops[widest].step) widest = i;
    }
    if (span >= stride) return Split(region, at, dim, widest, span);
    for (Loop& loop : region.loops)
      if (loop.dim == kOpen && loop.step % stride == 0) {
        loop.dim = dim;
        loop.step /= stride;
      }
    region.start[dim] = at / stride;
    return Place(std::move(region), at % stride, dim + 1);
  }

  static constexpr size_t kOpen = SIZE_MAX;

 private:
  // Somewhere in the loop a row of the dimension ends: cut there.
  Result<> Split(const Region& region, int64_t at, size_t dim, size_t index, int64_t span) {
    const int64_t stride = strides_[dim];
    const Loop& loop = region.loops[index];
    const int64_t others = span - at % stride - (loop.extent - 1) * loop.step;
    // Turns from here that stay within the row; then those that reach over its end, one by one.
    const int64_t room = stride - 1 - others - at % stride;
    const int64_t within = room < 0 ? 0 : room / loop.step + 1;
    const int64_t period = stride / std::gcd(stride, loop.step);
    // Where the turns fill rows, a head up to the next row comes first, for the longest runs.
    const bool fills = stride % loop.step == 0 && at % loop.step + others < loop.step;
    if (loop.extent > period && (!fills || at % stride < loop.step)) {
      // The same places in the row come back every `period` turns: a loop of its own.
      const int64_t rows = loop.extent / period, rest = loop.extent % period;
      Region whole = region;
      whole.loops[index].extent = period;
      if (rows > 1)
        whole.loops.insert(whole.loops.begin() + static_cast<std::ptrdiff_t>(index),
                           {rows, loop.dst_stride * period, kOpen, loop.step * period});
      RESHARD_TRY(Place(std::move(whole), at, dim));
      return rest == 0 ? Result<>{} : From(region, at, dim, index, rows * period, rest);
    }
    const int64_t head = std::clamp<int64_t>(within, 1, loop.extent);
    RESHARD_TRY(From(region, at, dim, index, 0, head));
    return head == loop.extent ? Result<>{}
                               : From(region, at, dim, index, head, loop.extent - head);
  }

  Result<> From(const Region& region, int64_t at, size_t dim, size_t index, int64_t first,
                int64_t count) {
    Region part = Turns(region, index, first, count, &at);
    return Place(std::move(part), at, dim);
  }

  std::span<const int64_t> shape_;
  std::vector<int64_t> strides_;
  const RegionFn& emit_;
};

}  // namespace

Region TurnsOf(const Region& region, size_t index, int64_t first, int64_t count) {
  int64_t moved = 0;
  const size_t dim = region.loops[index].dim;
  Region part = Turns(region, index, first, count, &moved);
  part.start[dim] += moved;
  return part;
}

int64_t Region::numel() const {
  int64_t count = 1;
  for (const Loop& loop : loops) count *= loop.extent;
  return count;
}

Reach ReachAlong(const Region& region, size_t dim) {
  Reach reach{region.start[dim], region.start[dim]};
  for (const Loop& loop : region.loops)
    if (loop.dim == dim) reach.last += (loop.extent - 1) * loop.step;
  return reach;
}

Result<> ClipAlong(const Region& region, size_t dim, int64_t begin, int64_t end,
                   const RegionFn& emit) {
  const auto [first, last] = ReachAlong(region, dim);
  if (last < begin || first >= end) return {};
  if (first >= begin && last < end) return emit(region);
  const size_t index = WidestLoop(region, dim);
  const Loop& loop = region.loops[index];
  const int64_t others = last - first - (loop.extent - 1) * loop.step;
  // Turns [touched, past) reach into the interval, of them [whole, cut) with all that they read.
  const auto first_turn_at = [&](int64_t place) {
    return place <= first ? 0 : std::min(loop.extent, CeilDiv(place - first, loop.step));
  };
  const int64_t touched = first_turn_at(begin - others), past = first_turn_at(end);
  const int64_t whole = std::min(first_turn_at(begin), past);
  const int64_t cut = std::max(whole, first_turn_at(end - others));
  for (int64_t turn = touched; turn < whole; ++turn)
    RESHARD_TRY(ClipAlong(TurnsOf(region, index, turn, 1), dim, begin, end, emit));
  if (cut > whole) RESHARD_TRY(emit(TurnsOf(region, index, whole, cut - whole)));
  for (int64_t turn = cut; turn < past; ++turn)
    RESHARD_TRY(ClipAlong(TurnsOf(region, index, turn, 1), dim, begin, end, emit));
  return {};
}

Result<> ReshapeRegion(const Region& region, std::span<const int64_t> from,
                       std::span<const int64_t> to, const RegionFn& emit) {
  const std::vector<int64_t> strides = RowMajorStrides(from);
  int64_t at = 0;
  for (size_t dim = 0; dim < from.size(); ++dim) at += region.start[dim] * strides[dim];
  Region open = region;
  open.start.assign(to.size(), 0);
  for (Loop& loop : open.loops) {
    loop.step *= strides[loop.dim];
    loop.dim = Reshaper::kOpen;
  }
  return Reshaper(to, emit).Place(std::move(open), at, 0);
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

}  // namespace reshard
