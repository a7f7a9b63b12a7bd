#include "formats/dcp/chunk_join.h"

#include <algorithm>
#include <numeric>

namespace reshard::dcp {

uint32_t ChunkJoin::Find(Range* range, uint32_t start) {
  const std::span<const int64_t> wanted = ints_.subspan(start, range->rank);
  if (range->next < range->count) {
    const uint32_t guess = range->first + range->next;
    if (std::ranges::equal(StartOf(*range, guess), wanted)) {
      // Entries come rank by rank, so that the next chunk of this tensor is wanted when those of
      // all others have been in between.
      if (++range->next < range->count) __builtin_prefetch(&ints_[boxes_[guess + 1]]);
      return guess;
    }
  }

  const auto less = [](std::span<const int64_t> a, std::span<const int64_t> b) {
    return std::ranges::lexicographical_compare(a, b);
  };
  if (!range->sorted) {
    if (order_.empty()) order_.resize(boxes_.size());
    const auto part = std::span(order_).subspan(range->first, range->count);
    std::iota(part.begin(), part.end(), range->first);
    std::ranges::sort(
        part, [&](uint32_t a, uint32_t b) { return less(StartOf(*range, a), StartOf(*range, b)); });
    range->sorted = true;
  }
  const auto part = std::span<const uint32_t>(order_).subspan(range->first, range->count);
  const auto found = std::ranges::lower_bound(
      part, wanted, less, [&](uint32_t chunk) { return StartOf(*range, chunk); });
  if (found == part.end() || !std::ranges::equal(StartOf(*range, *found), wanted)) return kNone;
  range->next = *found - range->first + 1;
  return *found;
}

}  // namespace reshard::dcp
