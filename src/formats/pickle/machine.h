#ifndef RESHARD_FORMATS_PICKLE_MACHINE_H_
#define RESHARD_FORMATS_PICKLE_MACHINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/pickle/arena.h"
#include "formats/pickle/memo.h"
#include "formats/pickle/nodes.h"
#include "formats/pickle/pickle.h"
#include "formats/pickle/slot_set.h"
#include "formats/pickle/window.h"

namespace reshard::pickle {

struct Document::Impl {
  Arena arena;
  Value root;
  uint64_t end = 0;
};

/// The second pass: carries out the opcodes of one pickle.
class Machine {
 public:
  /// `offset`: where the pickle starts. `read`: what FindReadSlots() found for it.
  Machine(Window& window, uint64_t offset, const Limits& limits, Folder* folder, SlotSet read);

  Result<Document> Run();

 private:
  // What the opcode loop keeps in registers: the next byte, and the end of the stack. Operations
  // take it and return it moved; a null `p` says that error_ is set.
  struct Cursor {
    const uint8_t* p;
    Value* top;
  };

  Cursor Loop(Cursor c);
  Cursor MakeRoom(Cursor c);

  // Operations on the opcode at op_; c.p stands behind it, at its operand.
  static Cursor Push(Cursor c, const Value& value) {
    *c.top = value;
    return {c.p, c.top + 1};
  }
  Cursor Mark(Cursor c);
  Cursor Drop(Cursor c, size_t count);
  Cursor Dup(Cursor c);
  Cursor Get(Cursor c, uint32_t slot);
  Cursor Memoize(Cursor c);
  Cursor Remember(Cursor c);  // for a slot that is read at some time
  // Carries out the MEMOIZE that follows nearly every new value; zeros follow the source's end.
  Cursor Memoized(Cursor c);
  Cursor Put(Cursor c, uint32_t slot);
  Cursor Proto(Cursor c);
  Cursor ShortText(Cursor c);
  Cursor Text(Cursor c, uint64_t length, Kind kind);
  Cursor Long(Cursor c, size_t length);
  Cursor Float(Cursor c) const;

  // These take `count` values from the top of the stack.
  Cursor Tuple(Cursor c, size_t count);
  Cursor FrozenSet(Cursor c, size_t count);
  Cursor AddItems(Cursor c, size_t count);
  Cursor AddEntries(Cursor c, size_t count);
  // ... with the values down to the innermost mark.
  template <Cursor (Machine::*kOperation)(Cursor, size_t)>
  Cursor ToMark(Cursor c);

  template <typename Node>
  Cursor Container(Cursor c, Kind kind);
  Cursor Global(Cursor c);
  Cursor StackGlobal(Cursor c);
  Cursor PersistentId(Cursor c);
  Cursor Reduce(Cursor c);
  Cursor NewObject(Cursor c);
  Cursor NewObjectEx(Cursor c);
  Cursor Build(Cursor c);

  // Pushes the global of two names that lie in the arena.
  Cursor PushGlobal(Cursor c, std::string_view module, std::string_view name);
  Cursor PushObject(Cursor c, const ObjectParts& parts);
  static FoldRule RuleOf(const Value& callable) {
    return callable.is(Kind::kGlobal) ? MutableNode<GlobalNode>(callable)->rule : FoldRule();
  }
  Cursor CopyLine(Cursor c, std::string_view* out);
  Cursor Append(Cursor c, Value* target, std::span<const Value> items);
  // The container that `value` is, made first where it is None; null for want of memory.
  template <typename Node>
  Node* NodeOf(Value* value, Kind kind);
  template <typename Item>
  bool Reserve(Item** items, uint32_t size, uint32_t* capacity, size_t more);
  // Makes `outer` at least one deeper than `inner`; false where that is too deep.
  bool Nest(Value* outer, const Value& inner) const {
    if (inner.depth() < outer->depth()) return true;
    outer->set_depth(inner.depth() + 1);
    return inner.depth() < limits_.max_depth;
  }
  // From now on the value can be reached by the memo, or from a second place on the stack.
  // `slot`: kNoSlot unless it is the memo.
  void Keep(const Value& value, uint32_t slot);

  bool Has(Cursor c, size_t count) const { return static_cast<size_t>(c.top - floor_) >= count; }

  Cursor Fail(std::string found, std::string expected);
  Cursor FailType(const Value& found, std::string_view expected);
  Cursor Fail(Error error);
  Cursor FailUnderflow();
  Cursor FailMemory();
  Cursor FailDepth();

  uint64_t memory() const { return arena_.memory() + memo_.memory(); }

  template <typename Node>
  static Node* MutableNode(const Value& value) {
    return static_cast<Node*>(const_cast<void*>(value.node()));
  }
  static Value MakeScalar(Kind kind, uint64_t bits) { return Value(kind, 0, bits); }
  static Value MakeInt(int64_t value) {
    return MakeScalar(Kind::kInt, static_cast<uint64_t>(value));
  }
  static Value MakeNode(Kind kind, const void* node, uint32_t size = 0) {
    return Value(kind, size, reinterpret_cast<uint64_t>(node));
  }

  Window& window_;
  const uint64_t start_;
  const Limits limits_;
  Folder* const folder_;
  const uint8_t* op_ = nullptr;

  // The stack: values from floor_ on belong to the innermost mark.
  std::unique_ptr<Value[]> stack_;
  Value* floor_ = nullptr;
  Value* limit_ = nullptr;
  std::vector<uint32_t> marks_;  // stack heights

  Memo memo_;
  Arena arena_;
  std::optional<Error> error_;
};

template <Machine::Cursor (Machine::*kOperation)(Machine::Cursor, size_t)>
Machine::Cursor Machine::ToMark(Cursor c) {
  if (marks_.empty()) return FailUnderflow();
  const auto count = static_cast<size_t>(c.top - floor_);
  floor_ = stack_.get() + marks_.back();
  marks_.pop_back();
  return (this->*kOperation)(c, count);
}

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_MACHINE_H_
