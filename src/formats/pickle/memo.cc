#include "formats/pickle/memo.h"

#include <bit>
#include <utility>

namespace reshard::pickle {

Memo::Memo(SlotSet read) : read_(std::move(read)) {
  uint32_t count = 0;
  rank_.reserve(read_.words().size());
  for (uint64_t word : read_.words()) {
    rank_.push_back(count);
    count += static_cast<uint32_t>(std::popcount(word));
  }
  values_.resize(count);
}

bool Memo::Put(uint32_t slot) {
  if (slot == size_) {
    const bool read = Append();
    return read;
  }
  if (slot > size_) {
    sparse_ = true;
    size_ = slot + 1;
    next_read_ = size_ < kLowSlots ? size_ : read_.Next(size_);
  }
  return slot < kLowSlots || read_.Contains(slot);
}

void Memo::Set(uint32_t slot, const Value& value) {
  if (slot + 1 == size_) next_read_ = size_ < kLowSlots ? size_ : read_.Next(size_);
  if (slot < kLowSlots) {
    low_[slot] = value;
    is_set_[slot] = true;
    return;
  }
  const size_t index = DenseIndex(slot);
  values_[index] = value;
  set_.Add(static_cast<uint32_t>(index));
}

size_t Memo::DenseIndex(uint32_t slot) const {
  const uint64_t below = read_.words()[slot / 64] & ((uint64_t{1} << (slot % 64)) - 1);
  return rank_[slot / 64] + static_cast<size_t>(std::popcount(below));
}

const Value* Memo::Find(uint32_t slot) {
  // The source may have changed since the first pass.
  if (!read_.Contains(slot)) return nullptr;
  const size_t index = DenseIndex(slot);
  if (!set_.Contains(static_cast<uint32_t>(index))) return nullptr;
  recent_[slot % kRecent] = {slot, &values_[index]};
  return &values_[index];
}

}  // namespace reshard::pickle
