#ifndef RESHARD_FORMATS_PICKLE_WRITER_H_
#define RESHARD_FORMATS_PICKLE_WRITER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/pickle/opcodes.h"

namespace reshard::pickle {

/// Writes a pickle of protocol 2, value by value: each call pushes one value, with the opcode that
/// CPython's pickler takes for it (Lib/pickle.py). What is to be used again is put into the memo,
/// whose slots are numbered from 0 in the order of the puts.
class Writer {
 public:
  /// A memo slot, once the value is in it.
  using Slot = std::optional<uint32_t>;

  Writer() : out_("\x80\x02") {}

  void Put(Op op) { out_ += static_cast<char>(op); }

  /// Stores the top of the stack in the next memo slot, and gives its number.
  uint32_t Memoize();

  void None() { Put(Op::kNone); }
  void Bool(bool value) { Put(value ? Op::kNewTrue : Op::kNewFalse); }
  void Int(int64_t value);
  void Float(double value);
  /// UTF-8, below 4 GiB.
  void Text(std::string_view text);
  /// A tuple of integers; not memoized.
  void IntTuple(std::span<const int64_t> values);

  /// Pushes what is in the slot; false, and nothing pushed, where there is no slot yet.
  bool Fetch(Slot slot);

  /// These write the value where it is first used, with a memo slot, and fetch it from there
  /// afterwards.
  void Text(std::string_view text, Slot* slot);
  void Global(std::string_view module, std::string_view name, Slot* slot);

  /// Puts `count` items into the dict on the top of the stack, in the batches of CPython's pickler.
  /// `write(i)` pushes the key and the value of item i.
  template <typename Write>
  void SetItems(size_t count, Write write);

  /// Likewise for the list on the top of the stack; `write(i)` pushes item i.
  template <typename Write>
  void AppendItems(size_t count, Write write);

  /// The finished pickle; the object is spent.
  std::string Take() &&;

 private:
  static constexpr size_t kBatch = 1000;  // items that the pickler adds at once

  std::string out_;
  uint32_t slots_ = 0;
};

template <typename Write>
void Writer::SetItems(size_t count, Write write) {
  if (count == 1) {
    write(size_t{0});
    Put(Op::kSetItem);
    return;
  }
  // A full last batch is followed by an empty one.
  size_t batch = count == 0 ? 0 : kBatch;
  for (size_t next = 0; batch == kBatch;) {
    batch = std::min(kBatch, count - next);
    Put(Op::kMark);
    for (const size_t end = next + batch; next < end; ++next) write(next);
    Put(Op::kSetItems);
  }
}

template <typename Write>
void Writer::AppendItems(size_t count, Write write) {
  if (count == 1) {
    write(size_t{0});
    Put(Op::kAppend);
    return;
  }
  for (size_t next = 0; next < count;) {
    Put(Op::kMark);
    for (const size_t end = std::min(count, next + kBatch); next < end; ++next) write(next);
    Put(Op::kAppends);
  }
}

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_WRITER_H_
