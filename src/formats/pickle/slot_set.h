#ifndef RESHARD_FORMATS_PICKLE_SLOT_SET_H_
#define RESHARD_FORMATS_PICKLE_SLOT_SET_H_

#include <bit>
#include <cstdint>
#include <vector>

namespace reshard::pickle {

/// A set of memo slots: one bit each. The caller bounds the slots.
class SlotSet {
 public:
  void Add(uint32_t slot) {
    if (slot / 64 >= words_.size()) words_.resize(slot / 64 + 1);
    words_[slot / 64] |= uint64_t{1} << (slot % 64);
  }

  bool Contains(uint32_t slot) const {
    return slot / 64 < words_.size() && (words_[slot / 64] >> (slot % 64) & 1) != 0;
  }

  /// The lowest slot of the set that is >= `from`, or kEnd.
  uint64_t Next(uint64_t from) const {
    uint64_t word = from / 64;
    if (word >= words_.size()) return kEnd;
    uint64_t bits = words_[word] >> (from % 64) << (from % 64);
    while (bits == 0) {
      if (++word == words_.size()) return kEnd;
      bits = words_[word];
    }
    return word * 64 + static_cast<uint64_t>(std::countr_zero(bits));
  }

  uint64_t Count() const {
    uint64_t count = 0;
    for (uint64_t word : words_) count += static_cast<uint64_t>(std::popcount(word));
    return count;
  }

  const std::vector<uint64_t>& words() const { return words_; }

  static constexpr uint64_t kEnd = ~uint64_t{0};

 private:
  std::vector<uint64_t> words_;
};

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_SLOT_SET_H_
