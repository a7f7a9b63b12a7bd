#include "formats/torch_save/edge_cache.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/checked_math.h"
#include "base/try.h"

namespace reshard::torch_save {

Result<> EdgeCache::Fill() {
  const uint64_t size = base_.size();
  const bool whole = size <= bytes_.size();
  const uint64_t head = whole ? size : kHead;
  RESHARD_TRY(base_.ReadAt(0, std::span(bytes_).first(head)));
  head_ = head;
  if (whole) return {};
  RESHARD_TRY(base_.ReadAt(size - kTail, std::span(bytes_).last(kTail)));
  tail_start_ = size - kTail;
  tail_ = kTail;
  return {};
}

Result<> EdgeCache::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  const std::byte* from = nullptr;
  if (InRange(offset, out.size(), head_))
    from = bytes_.data() + offset;
  else if (offset >= tail_start_ && InRange(offset - tail_start_, out.size(), tail_))
    from = bytes_.data() + head_ + (offset - tail_start_);
  if (from == nullptr) return base_.ReadAt(offset, out);
  if (!out.empty()) std::memcpy(out.data(), from, out.size());
  return {};
}

}  // namespace reshard::torch_save
