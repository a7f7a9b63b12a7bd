#include "formats/pickle/arena.h"

#include <algorithm>
#include <cstring>

namespace reshard::pickle {
namespace {

constexpr uint64_t kFirstBlock = uint64_t{4} << 10;
constexpr uint64_t kLargestBlock = uint64_t{1} << 20;

}  // namespace

void Arena::Enter(size_t index) {
  current_ = index;
  block_ = blocks_[index].bytes.get();
  next_ = block_;
  end_ = block_ + blocks_[index].size;
  block_position_ = blocks_[index].position;
}

void* Arena::AllocateInNextBlock(uint64_t size) {
  const size_t index = blocks_.empty() ? 0 : current_ + 1;
  // Blocks behind the current one hold nothing: one that is too small is replaced, and with it
  // those behind, whose positions would no longer be right.
  if (index < blocks_.size() && blocks_[index].size < size) {
    for (size_t i = index; i < blocks_.size(); ++i) memory_ -= blocks_[i].size;
    blocks_.resize(index);
  }
  if (index == blocks_.size()) {
    const uint64_t last = blocks_.empty() ? kFirstBlock / 4 : blocks_.back().size;
    const uint64_t room = max_memory_ > memory_ ? max_memory_ - memory_ : 0;
    const uint64_t block_size = std::max(size, std::min(last * 4, kLargestBlock));
    if (size > room || block_size > room) return nullptr;
    const uint64_t position = blocks_.empty() ? 0 : blocks_.back().position + blocks_.back().size;
    blocks_.push_back(
        {std::make_unique_for_overwrite<std::byte[]>(block_size), block_size, position});
    memory_ += block_size;
  }
  Enter(index);
  next_ += size;
  return block_;
}

void Arena::Rewind(uint64_t position) {
  position = std::max(position, kept_);
  if (position >= this->position()) return;
#ifndef NDEBUG
  const std::byte* const end = next_;
#endif
  if (position < block_position_) {
    size_t index = current_;
    while (blocks_[index].position > position) --index;
    Enter(index);
  }
#ifndef NDEBUG
  // A use of what is freed shows itself in tests.
  std::byte* const freed = block_ + (position - block_position_);
  std::memset(freed, 0xdd, static_cast<size_t>((end >= freed && end <= end_ ? end : end_) - freed));
#endif
  next_ = block_ + (position - block_position_);
}

}  // namespace reshard::pickle
