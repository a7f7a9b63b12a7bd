#ifndef RESHARD_FORMATS_PICKLE_MEMO_H_
#define RESHARD_FORMATS_PICKLE_MEMO_H_

#include <array>
#include <cstdint>
#include <vector>

#include "formats/pickle/pickle.h"
#include "formats/pickle/scan.h"
#include "formats/pickle/slot_set.h"

namespace reshard::pickle {

/// The memo of an unpickler, which holds only the slots that are ever read.
class Memo {
 public:
  /// `read`: the slots from kLowSlots on that are ever read.
  explicit Memo(SlotSet read);

  /// Number of values that were put so far; what MEMOIZE uses as the next slot.
  uint32_t size() const { return size_; }
  /// True where a put has left slots out, so that the next slot cannot be told from size().
  bool sparse() const { return sparse_; }

  /// Counts a put into slot size(). True where the slot is read at some time, so that Set() must
  /// follow.
  bool Append() { return size_++ == next_read_; }
  /// The same for a put into any slot, which the caller has bounded.
  bool Put(uint32_t slot);

  void Set(uint32_t slot, const Value& value);

  /// The value of a slot, or null where nothing was put.
  const Value* Get(uint32_t slot) {
    if (slot < kLowSlots) return is_set_[slot] ? &low_[slot] : nullptr;
    const Recent& recent = recent_[slot % kRecent];
    return recent.slot == slot ? recent.value : Find(slot);
  }

  uint64_t memory() const { return values_.size() * sizeof(Value); }

 private:
  static constexpr uint32_t kRecent = 256;
  struct Recent {
    uint32_t slot = 0;  // no slot below kLowSlots is ever looked for here
    const Value* value = nullptr;
  };

  size_t DenseIndex(uint32_t slot) const;
  const Value* Find(uint32_t slot);

  uint32_t size_ = 0;
  uint64_t next_read_ = 0;  // the lowest slot >= size_ that is read
  bool sparse_ = false;
  std::array<Value, kLowSlots> low_;
  std::array<bool, kLowSlots> is_set_{};
  SlotSet read_;
  std::vector<uint32_t> rank_;  // number of slots in read_ before each of its words
  std::vector<Value> values_;   // one for each slot in read_
  SlotSet set_;                 // of those, by dense index, the ones that were put
  std::array<Recent, kRecent> recent_{};
};

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_MEMO_H_
