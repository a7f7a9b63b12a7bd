#ifndef RESHARD_FORMATS_TORCH_SAVE_VALUE_STACK_H_
#define RESHARD_FORMATS_TORCH_SAVE_VALUE_STACK_H_

#include <cstdint>
#include <unordered_set>
#include <vector>

#include "formats/pickle/pickle.h"

namespace reshard::torch_save {

/// Values that are still to be looked at: those that hold others, and persistent ids. What a
/// container holds is added once, wherever and however often the container stands: a pickle may put
/// one value in many places, or in itself.
class ValueStack {
 public:
  explicit ValueStack(const pickle::Value& root) { Push(root); }

  bool empty() const { return stack_.empty(); }

  /// Removes the top value, and adds what it holds.
  pickle::Value Pop();

  /// How many values have been looked at to find those worth adding.
  uint64_t looked_at() const { return looked_at_; }

 private:
  bool IsNew(const void* contents) { return seen_.insert(contents).second; }
  void Push(const pickle::Value& value);

  std::vector<pickle::Value> stack_;
  std::unordered_set<const void*> seen_;
  uint64_t looked_at_ = 0;
};

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_VALUE_STACK_H_
