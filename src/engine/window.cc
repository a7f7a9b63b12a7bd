#include "engine/window.h"

#include <algorithm>
#include <cstring>

#include "base/try.h"
#include "view/lower.h"

namespace reshard {
namespace {

// An element that a window's edge cuts is made whole; its other part falls into this margin.
constexpr uint64_t kMargin = 16;

// The elements of a slot that lie in the bytes [begin, end) of the file, wholly or in part.
struct Elements {
  int64_t first = 0;
  int64_t last = 0;  // one past
  bool first_is_cut = false;
};

Elements ElementsOf(const Slot& slot, uint64_t begin, uint64_t end) {
  const auto size = static_cast<uint64_t>(ItemSize(slot.view.dtype()));
  const uint64_t from = std::max(begin, slot.offset) - slot.offset;
  const uint64_t to = std::min(end, slot.offset + slot.byte_size());
  if (to <= slot.offset + from) return {};
  return {.first = static_cast<int64_t>(from / size),
          .last = static_cast<int64_t>((to - slot.offset + size - 1) / size),
          .first_is_cut = from % size != 0};
}

// True where neighbours in the target lie far apart in the source, and neighbours in the source far
// apart in the target.
bool JumpsThrough(const Region& region, const Shape& shape) {
  constexpr int64_t kNear = 16;  // elements
  if (region.loops.empty()) return false;
  const std::vector<int64_t> strides = RowMajorStrides(shape);
  const auto stride = [&](const Loop& loop) { return loop.step * strides[loop.dim]; };
  const auto target = std::ranges::min_element(region.loops, {}, &Loop::dst_stride);
  const auto source = std::ranges::min_element(region.loops, {}, stride);
  return target != source && stride(*target) > kNear && source->dst_stride > kNear;
}

}  // namespace

WindowFiller::WindowFiller(const Source& source, const ChunkIndex& index,
                           const ChunkLayouts& layouts, size_t widest)
    : source_(source),
      widest_(widest),
      filler_(source, index, layouts, kFillerBytes - kWindowBytes - 2 * kMargin),
      buffer_(kWindowBytes + 2 * kMargin) {}

size_t WindowFiller::BestWindow(const FilePlan& file, uint64_t begin, uint64_t end) const {
  if (widest_ <= kWindowBytes) return kWindowBytes;
  auto slot = std::ranges::upper_bound(file.slots, begin, {}, &Slot::offset);
  if (slot != file.slots.begin()) --slot;
  for (; slot != file.slots.end() && slot->offset < end; ++slot)
    if (IsTransposed(*slot, begin, end)) return widest_;
  return kWindowBytes;
}

bool WindowFiller::IsTransposed(const Slot& slot, uint64_t begin, uint64_t end) const {
  const Elements elements = ElementsOf(slot, begin, end);
  bool transposed = false;
  const std::vector<int64_t> strides = RowMajorStrides(slot.view.shape());
  (void)CutRange(slot.view.shape(), elements.first, elements.last, [&](BoxView box) {
    return Lower(slot.view, box.start, box.extent, strides, [&](const Region& region) -> Result<> {
      if (region.source != Region::kFill)
        transposed |= JumpsThrough(region, source_.catalog().tensors()[region.source].shape);
      return {};
    });
  });
  return transposed;
}

Result<std::span<const std::byte>> WindowFiller::Fill(const FilePlan& file, uint64_t begin,
                                                      uint64_t end, const OverflowFn& on_overflow) {
  if (buffer_.size() < end - begin + 2 * kMargin) buffer_.resize(end - begin + 2 * kMargin);
  const std::span<std::byte> window = std::span(buffer_).subspan(kMargin, end - begin);
  // Slots go first: what they leave in the margins of their neighbours is overwritten by those.
  auto slot = std::ranges::upper_bound(file.slots, begin, {}, &Slot::offset);
  if (slot != file.slots.begin()) --slot;
  for (; slot != file.slots.end() && slot->offset < end; ++slot)
    RESHARD_TRY(FillSlot(*slot, begin, end, on_overflow));

  auto literal = std::ranges::upper_bound(file.literals, begin, {}, &Literal::offset);
  if (literal != file.literals.begin()) --literal;
  for (; literal != file.literals.end() && literal->offset < end; ++literal) {
    const uint64_t from = std::max(begin, literal->offset);
    const uint64_t to = std::min<uint64_t>(end, literal->offset + literal->bytes.size());
    if (from < to)
      std::memcpy(window.data() + (from - begin), literal->bytes.data() + (from - literal->offset),
                  to - from);
  }
  return window;
}

Result<> WindowFiller::FillSlot(const Slot& slot, uint64_t begin, uint64_t end,
                                const OverflowFn& on_overflow) {
  const uint64_t size = static_cast<uint64_t>(ItemSize(slot.view.dtype()));
  const auto [first, last, first_is_cut] = ElementsOf(slot, begin, end);
  if (first == last) return {};
  // Element 0 of the slot, were the window to reach that far back.
  const int64_t origin = static_cast<int64_t>(slot.offset) - static_cast<int64_t>(begin) +
                         static_cast<int64_t>(kMargin);

  const std::vector<int64_t> strides = RowMajorStrides(slot.view.shape());
  size_t overflows = 0;
  const auto copy_box = [&](BoxView box) -> Result<> {
    int64_t at = 0;
    for (size_t dim = 0; dim < strides.size(); ++dim) at += box.start[dim] * strides[dim];
    std::byte* dst = buffer_.data() + (origin + at * static_cast<int64_t>(size));
    RESHARD_ASSIGN(const size_t more, filler_.Fill(slot.view, box, strides, dst));
    overflows += more;
    return {};
  };
  if (first_is_cut) {
    RESHARD_TRY(CutRange(slot.view.shape(), first, first + 1, copy_box));
    overflows = 0;  // The window that holds the element's first byte counts it.
  }
  RESHARD_TRY(CutRange(slot.view.shape(), first + first_is_cut, last, copy_box));
  if (overflows > 0) on_overflow(slot, overflows);
  return {};
}

}  // namespace reshard
