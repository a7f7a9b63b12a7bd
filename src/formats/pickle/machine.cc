#include "formats/pickle/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "base/endian.h"
#include "base/try.h"
#include "formats/pickle/opcodes.h"

namespace reshard::pickle {
namespace {

constexpr size_t kFirstStack = 256;
constexpr size_t kMaxCount = std::numeric_limits<uint32_t>::max();

// Depths are kept in 16 bits, with room for one more.
Limits Clamp(Limits limits) {
  limits.max_depth = std::min<uint32_t>(limits.max_depth, 60000);
  limits.max_string = std::min<uint64_t>(limits.max_string, kMaxCount);
  return limits;
}

}  // namespace

Machine::Machine(Window& window, uint64_t offset, const Limits& limits, Folder* folder,
                 SlotSet read)
    : window_(window),
      start_(offset),
      limits_(Clamp(limits)),
      folder_(folder),
      stack_(std::make_unique<Value[]>(kFirstStack)),
      floor_(stack_.get()),
      limit_(stack_.get() + kFirstStack),
      memo_(std::move(read)),
      arena_(limits.max_memory - std::min(limits.max_memory, memo_.memory())) {}

Result<Document> Machine::Run() {
  RESHARD_ASSIGN(const uint8_t* p, window_.Seek(start_));
  const Cursor c = Loop({p, stack_.get()});
  if (c.p == nullptr) return std::unexpected(std::move(*error_));
  auto impl = std::make_unique<Document::Impl>(std::move(arena_), c.top[-1], window_.OffsetOf(c.p));
  return Document(std::move(impl));
}

Machine::Cursor Machine::Loop(Cursor c) {
  for (;;) {
    if (c.p >= window_.safe_end() || c.top == limit_) [[unlikely]] {
      c = MakeRoom(c);
      if (c.p == nullptr) return c;
    }
    op_ = c.p;
    // clang-format off
    switch (static_cast<Op>(*c.p++)) {
      case Op::kProto: c = Proto(c); break;
      case Op::kFrame: c.p += 8; break;
      case Op::kStop:
        if (c.top != stack_.get() + 1 || !marks_.empty())
          return Fail("the pickle stops with values left over", "exactly one value");
        return c;

      case Op::kNone: c = Push(c, Value()); break;
      case Op::kNewTrue: c = Push(c, MakeScalar(Kind::kBool, 1)); break;
      case Op::kNewFalse: c = Push(c, MakeScalar(Kind::kBool, 0)); break;
      case Op::kBinInt1: c = Push({c.p + 1, c.top}, MakeInt(*c.p)); break;
      case Op::kBinInt2: c = Push({c.p + 2, c.top}, MakeInt(LoadLittle<uint16_t>(c.p))); break;
      case Op::kBinInt: c = Push({c.p + 4, c.top}, MakeInt(LoadLittle<int32_t>(c.p))); break;
      case Op::kLong1: c = Long({c.p + 1, c.top}, *c.p); break;
      case Op::kLong4: c = Long({c.p + 4, c.top}, LoadLittle<uint32_t>(c.p)); break;
      case Op::kBinFloat: c = Float(c); break;

      case Op::kShortBinUnicode: c = Memoized(ShortText(c)); break;
      case Op::kShortBinString: c = Text({c.p + 1, c.top}, *c.p, Kind::kString); break;
      case Op::kBinString:
      case Op::kBinUnicode: c = Text({c.p + 4, c.top}, LoadLittle<uint32_t>(c.p), Kind::kString); break;
      case Op::kBinUnicode8: c = Text({c.p + 8, c.top}, LoadLittle<uint64_t>(c.p), Kind::kString); break;
      case Op::kShortBinBytes: c = Text({c.p + 1, c.top}, *c.p, Kind::kBytes); break;
      case Op::kBinBytes: c = Text({c.p + 4, c.top}, LoadLittle<uint32_t>(c.p), Kind::kBytes); break;
      case Op::kBinBytes8:
      case Op::kByteArray8: c = Text({c.p + 8, c.top}, LoadLittle<uint64_t>(c.p), Kind::kBytes); break;

      case Op::kMark: c = Mark(c); break;
      case Op::kPop: c = Drop(c, 1); break;
      case Op::kPopMark: c = ToMark<&Machine::Drop>(c); break;
      case Op::kDup: c = Dup(c); break;

      case Op::kEmptyTuple: c = Push(c, MakeNode(Kind::kTuple, nullptr)); break;
      case Op::kTuple1: c = Memoized(Tuple(c, 1)); break;
      case Op::kTuple2: c = Memoized(Tuple(c, 2)); break;
      case Op::kTuple3: c = Memoized(Tuple(c, 3)); break;
      case Op::kTuple: c = Memoized(ToMark<&Machine::Tuple>(c)); break;
      case Op::kEmptyList: c = Memoized(Container<ListNode>(c, Kind::kList)); break;
      case Op::kEmptySet: c = Container<ListNode>(c, Kind::kSet); break;
      case Op::kFrozenSet: c = ToMark<&Machine::FrozenSet>(c); break;
      case Op::kEmptyDict: c = Memoized(Container<DictNode>(c, Kind::kDict)); break;
      case Op::kAppend: c = AddItems(c, 1); break;
      case Op::kAppends:
      case Op::kAddItems: c = ToMark<&Machine::AddItems>(c); break;
      case Op::kSetItem: c = AddEntries(c, 2); break;
      case Op::kSetItems: c = ToMark<&Machine::AddEntries>(c); break;

      case Op::kGlobal: c = Global(c); break;
      case Op::kStackGlobal: c = StackGlobal(c); break;
      case Op::kBinPersId: c = PersistentId(c); break;
      case Op::kReduce: c = Memoized(Reduce(c)); break;
      case Op::kNewObj: c = Memoized(NewObject(c)); break;
      case Op::kNewObjEx: c = NewObjectEx(c); break;
      case Op::kBuild: c = Build(c); break;

      case Op::kBinGet: c = Get({c.p + 1, c.top}, *c.p); break;
      case Op::kLongBinGet: c = Get({c.p + 4, c.top}, LoadLittle<uint32_t>(c.p)); break;
      case Op::kMemoize: c = Memoize(c); break;
      case Op::kBinPut: c = Put({c.p + 1, c.top}, *c.p); break;
      case Op::kLongBinPut: c = Put({c.p + 4, c.top}, LoadLittle<uint32_t>(c.p)); break;
      default: return Fail(UnknownOpcodeError(window_, op_));
    }
    // clang-format on
    if (c.p == nullptr) [[unlikely]]
      return c;
  }
}

Machine::Cursor Machine::MakeRoom(Cursor c) {
  if (c.top == limit_) {
    const auto size = static_cast<size_t>(c.top - stack_.get());
    if (2 * size * sizeof(Value) + memory() > limits_.max_memory) return FailMemory();
    auto larger = std::make_unique<Value[]>(2 * size);
    std::copy(stack_.get(), c.top, larger.get());
    floor_ = larger.get() + (floor_ - stack_.get());
    stack_ = std::move(larger);
    limit_ = stack_.get() + 2 * size;
    c.top = stack_.get() + size;
  }
  if (c.p >= window_.safe_end()) {
    auto p = window_.Refill(c.p);
    if (!p) return Fail(std::move(p).error());
    c.p = *p;
  }
  return c;
}

inline Machine::Cursor Machine::Mark(Cursor c) {
  if (marks_.size() >= limits_.max_depth) return FailDepth();
  marks_.push_back(static_cast<uint32_t>(floor_ - stack_.get()));
  floor_ = c.top;
  return c;
}

Machine::Cursor Machine::Drop(Cursor c, size_t count) {
  if (!Has(c, count)) return FailUnderflow();
  return {c.p, c.top - count};
}

Machine::Cursor Machine::Dup(Cursor c) {
  if (!Has(c, 1)) return FailUnderflow();
  Keep(c.top[-1], kNoSlot);
  return Push(c, c.top[-1]);
}

inline Machine::Cursor Machine::Get(Cursor c, uint32_t slot) {
  const Value* value = memo_.Get(slot);
  if (value == nullptr) [[unlikely]]
    return Fail(BadSlotError(window_, op_, slot));
  return Push(c, *value);
}

[[gnu::always_inline]] inline Machine::Cursor Machine::Memoize(Cursor c) {
  return memo_.Append() ? Remember(c) : c;
}

Machine::Cursor Machine::Remember(Cursor c) {
  const uint32_t slot = memo_.size() - 1;
  if (!Has(c, 1)) return FailUnderflow();
  if (memo_.sparse())
    return Fail("MEMOIZE after puts that left memo slots out", "puts into one slot after another");
  memo_.Set(slot, c.top[-1]);
  Keep(c.top[-1], slot);
  return c;
}

[[gnu::always_inline]] inline Machine::Cursor Machine::Memoized(Cursor c) {
  if (c.p == nullptr || static_cast<Op>(*c.p) != Op::kMemoize) return c;
  op_ = c.p++;
  return Memoize(c);
}

Machine::Cursor Machine::Put(Cursor c, uint32_t slot) {
  if (!Has(c, 1)) return FailUnderflow();
  // Each slot before it was set by an opcode of at least one byte, which bounds the memo.
  if (slot >= window_.OffsetOf(op_) - start_) return Fail(BadSlotError(window_, op_, slot));
  if (memo_.Put(slot)) {
    memo_.Set(slot, c.top[-1]);
    Keep(c.top[-1], slot);
  }
  return c;
}

void Machine::Keep(const Value& value, uint32_t slot) {
  switch (value.kind()) {
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kFolded:
      return;  // no memory of their own
    case Kind::kList:
    case Kind::kSet:
      MutableNode<ListNode>(value)->kept = true;
      break;
    case Kind::kDict:
      MutableNode<DictNode>(value)->kept = true;
      break;
    case Kind::kObject:
      MutableNode<ObjectNode>(value)->kept = true;
      if (slot != kNoSlot) MutableNode<ObjectNode>(value)->slot = slot;
      break;
    default:
      break;
  }
  arena_.KeepAll();
}

Machine::Cursor Machine::Proto(Cursor c) {
  if (*c.p > kMaxProtocol)
    return Fail(fmt::format("pickle protocol {}", *c.p),
                fmt::format("a protocol up to {}", kMaxProtocol));
  return {c.p + 1, c.top};
}

inline Machine::Cursor Machine::Tuple(Cursor c, size_t count) {
  if (!Has(c, count)) return FailUnderflow();
  Value* const first = c.top - count;
  auto* items = static_cast<Value*>(arena_.Allocate(count * sizeof(Value)));
  if (items == nullptr || count > kMaxCount) return FailMemory();
  Value tuple = MakeNode(Kind::kTuple, items, static_cast<uint32_t>(count));
  for (size_t i = 0; i < count; ++i) {
    items[i] = first[i];
    if (!Nest(&tuple, first[i])) return FailDepth();
  }
  return Push({c.p, first}, tuple);
}

template <typename Node>
Machine::Cursor Machine::Container(Cursor c, Kind kind) {
  void* memory = arena_.Allocate(sizeof(Node));
  if (memory == nullptr) return FailMemory();
  return Push(c, MakeNode(kind, new (memory) Node));
}

Machine::Cursor Machine::Fail(Error error) {
  error_ = std::move(error);
  return {nullptr, nullptr};
}

Machine::Cursor Machine::Fail(std::string found, std::string expected) {
  return Fail(Error{.kind = ErrorKind::kSource,
                    .file = window_.source().name(),
                    .offset = window_.FileOffsetOf(op_),
                    .found = std::move(found),
                    .expected = std::move(expected),
                    .help = "the file is damaged: copy it again from where it was written"});
}

Machine::Cursor Machine::FailUnderflow() {
  return Fail("an opcode that takes more values than there are", "a well-formed pickle");
}

Machine::Cursor Machine::FailMemory() {
  return Fail("values that take more memory than allowed",
              fmt::format("a pickle of at most {} bytes of values", limits_.max_memory));
}

Machine::Cursor Machine::FailDepth() {
  return Fail("values nested too deeply", fmt::format("at most {} levels", limits_.max_depth));
}

}  // namespace reshard::pickle
