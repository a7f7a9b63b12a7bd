#ifndef RESHARD_FORMATS_PICKLE_ARENA_H_
#define RESHARD_FORMATS_PICKLE_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace reshard::pickle {

/// Memory that is handed out in order and taken back from the end. Positions count all bytes of all
/// blocks, so that a later allocation has a higher position.
class Arena {
 public:
  explicit Arena(uint64_t max_memory) : max_memory_(max_memory) {}

  /// `size` bytes, aligned to 8 also for a size of 0; null where the limit is reached.
  void* Allocate(uint64_t size) {
    size = size == 0 ? 8 : (size + 7) & ~uint64_t{7};
    if (size > static_cast<uint64_t>(end_ - next_)) return AllocateInNextBlock(size);
    void* out = next_;
    next_ += size;
    return out;
  }

  /// Lengthens the newest allocation, which ends at `end`, by `size` bytes; false where it is not
  /// the newest, or where there is no room behind it.
  bool Extend(const void* end, uint64_t size) {
    if (end != next_ || size % 8 != 0 || size > static_cast<uint64_t>(end_ - next_)) return false;
    next_ += size;
    return true;
  }

  uint64_t position() const { return block_position_ + static_cast<uint64_t>(next_ - block_); }

  /// Frees what was allocated at `position` and above, except below the mark of KeepAll().
  void Rewind(uint64_t position);

  /// Nothing that is allocated now will be freed by Rewind().
  void KeepAll() { kept_ = position(); }

  /// Bytes of all blocks.
  uint64_t memory() const { return memory_; }

 private:
  struct Block {
    std::unique_ptr<std::byte[]> bytes;
    uint64_t size = 0;
    uint64_t position = 0;  // of its first byte
  };

  void* AllocateInNextBlock(uint64_t size);
  void Enter(size_t index);

  uint64_t max_memory_;
  uint64_t memory_ = 0;
  uint64_t kept_ = 0;
  std::vector<Block> blocks_;
  size_t current_ = 0;
  std::byte* block_ = nullptr;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  uint64_t block_position_ = 0;
};

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_ARENA_H_
