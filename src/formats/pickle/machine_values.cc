// The operations of the machine that make, fill and fold values.

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "base/endian.h"
#include "base/try.h"
#include "formats/pickle/machine.h"

namespace reshard::pickle {
namespace {

std::string_view KindName(Kind kind) {
  switch (kind) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "a bool";
    case Kind::kInt:
      return "an integer";
    case Kind::kFloat:
      return "a float";
    case Kind::kString:
      return "a string";
    case Kind::kBytes:
      return "bytes";
    case Kind::kTuple:
      return "a tuple";
    case Kind::kList:
      return "a list";
    case Kind::kSet:
      return "a set";
    case Kind::kDict:
      return "a dict";
    case Kind::kGlobal:
      return "a global";
    case Kind::kObject:
    case Kind::kFolded:
      return "an object";
    case Kind::kPersistentId:
      return "a persistent id";
  }
  return "a value";
}

bool IsText(const char* text, size_t size) {
  // Most texts are short and ASCII, which is cheaper to see here than through a dispatched call.
  uint64_t high = 0;
  size_t i = 0;
  for (; i + 8 <= size; i += 8) high |= LoadLittle<uint64_t>(text + i);
  for (; i < size; ++i) high |= static_cast<uint64_t>(static_cast<uint8_t>(text[i]));
  return (high & 0x8080808080808080) == 0 || simdjson::validate_utf8(text, size);
}

}  // namespace

Machine::Cursor Machine::FailType(const Value& found, std::string_view expected) {
  return Fail(fmt::format("an opcode applied to {}", KindName(found.kind())),
              fmt::format("{} there", expected));
}

Machine::Cursor Machine::ShortText(Cursor c) {
  const size_t size = *c.p++;
  auto* text = static_cast<char*>(arena_.Allocate(size));
  if (text == nullptr) return FailMemory();
  // Within the slack of the window, whatever follows.
  std::memcpy(text, c.p, size);
  const Kind kind = IsText(text, size) ? Kind::kString : Kind::kBytes;
  return Push({c.p + size, c.top}, MakeNode(kind, text, static_cast<uint32_t>(size)));
}

Machine::Cursor Machine::Text(Cursor c, uint64_t length, Kind kind) {
  const uint64_t left = window_.BytesLeft(c.p);
  if (length > left)
    return Fail(fmt::format("a string of {} bytes where {} are left", length, left),
                "a string that ends before the file does");
  if (length > limits_.max_string)
    return Fail(fmt::format("a string of {} bytes", length),
                fmt::format("at most {} bytes", limits_.max_string));
  auto* text = static_cast<char*>(arena_.Allocate(length));
  if (text == nullptr) return FailMemory();
  auto p = window_.CopyOut(c.p, std::span(text, length));
  if (!p) return Fail(std::move(p).error());
  if (kind == Kind::kString && !IsText(text, length)) kind = Kind::kBytes;
  return Push({*p, c.top}, MakeNode(kind, text, static_cast<uint32_t>(length)));
}

Machine::Cursor Machine::Long(Cursor c, size_t length) {
  if (length > sizeof(int64_t)) return Text(c, length, Kind::kBytes);
  uint64_t bits = 0;
  for (size_t i = 0; i < length; ++i) bits |= uint64_t{c.p[i]} << (8 * i);
  const int unused = static_cast<int>(64 - 8 * length);
  const int64_t value = length == 0 ? 0 : static_cast<int64_t>(bits << unused) >> unused;
  return Push({c.p + length, c.top}, MakeInt(value));
}

Machine::Cursor Machine::Float(Cursor c) const {
  const uint64_t bits = __builtin_bswap64(LoadLittle<uint64_t>(c.p));
  return Push({c.p + 8, c.top}, MakeScalar(Kind::kFloat, bits));
}

template <typename Node>
Node* Machine::NodeOf(Value* value, Kind kind) {
  if (value->is(Kind::kNone)) {
    void* memory = arena_.Allocate(sizeof(Node));
    if (memory == nullptr) return nullptr;
    *value = MakeNode(kind, new (memory) Node);
  }
  return MutableNode<Node>(*value);
}

template <typename Item>
bool Machine::Reserve(Item** items, uint32_t size, uint32_t* capacity, size_t more) {
  const uint64_t need = uint64_t{size} + more;
  if (need <= *capacity) return true;
  if (need > std::numeric_limits<uint32_t>::max() / 2) return false;
  if (*items != nullptr && arena_.Extend(*items + *capacity, (need - *capacity) * sizeof(Item))) {
    *capacity = static_cast<uint32_t>(need);
    return true;
  }
  const uint64_t larger = std::max(need, 2 * uint64_t{*capacity});
  auto* moved = static_cast<Item*>(arena_.Allocate(larger * sizeof(Item)));
  if (moved == nullptr) return false;
  std::copy_n(*items, size, moved);
  *items = moved;
  *capacity = static_cast<uint32_t>(larger);
  return true;
}

Machine::Cursor Machine::FrozenSet(Cursor c, size_t count) {
  if (!Has(c, count)) return FailUnderflow();
  Value* const first = c.top - count;
  Value set;
  if (NodeOf<ListNode>(&set, Kind::kSet) == nullptr) return FailMemory();
  const Cursor added = Append(c, &set, {first, count});
  return added.p == nullptr ? added : Push({c.p, first}, set);
}

Machine::Cursor Machine::AddItems(Cursor c, size_t count) {
  if (!Has(c, count + 1)) return FailUnderflow();
  Value* const first = c.top - count;
  return Append({c.p, first}, first - 1, {first, count});
}

Machine::Cursor Machine::Append(Cursor c, Value* target, std::span<const Value> items) {
  Value* container = target;
  bool kept = false;
  if (target->is(Kind::kObject)) {  // of a class derived from list or set
    container = &MutableNode<ObjectNode>(*target)->parts.items;
    kept = MutableNode<ObjectNode>(*target)->kept;
  } else if (!target->is(Kind::kList) && !target->is(Kind::kSet)) {
    return FailType(*target, "a list or a set");
  }
  auto* list = NodeOf<ListNode>(container, Kind::kList);
  if (list == nullptr || !Reserve(&list->items, list->size, &list->capacity, items.size()))
    return FailMemory();
  for (const Value& item : items) {
    list->items[list->size++] = item;
    if (!Nest(target, item)) return FailDepth();
  }
  if (kept || list->kept) arena_.KeepAll();
  return c;
}

Machine::Cursor Machine::AddEntries(Cursor c, size_t count) {
  if (count % 2 != 0 || !Has(c, count + 1)) return FailUnderflow();
  Value* const first = c.top - count;
  Value* const target = first - 1;
  Value* container = target;
  bool kept = false;
  if (target->is(Kind::kObject)) {  // of a class derived from dict
    container = &MutableNode<ObjectNode>(*target)->parts.entries;
    kept = MutableNode<ObjectNode>(*target)->kept;
  } else if (!target->is(Kind::kDict)) {
    return FailType(*target, "a dict");
  }
  auto* dict = NodeOf<DictNode>(container, Kind::kDict);
  if (dict == nullptr) return FailMemory();
  for (Value* key = first; key < c.top; key += 2) {
    const bool folded = key[0].is(Kind::kFolded) && key[1].is(Kind::kFolded);
    if (folded && folder_->FoldEntry(key[0].handle(), key[1].handle())) continue;
    const auto more = static_cast<size_t>(c.top - key) / 2;
    if (!Reserve(&dict->entries, dict->size, &dict->capacity, more)) return FailMemory();
    dict->entries[dict->size++] = {key[0], key[1]};
    if (!Nest(target, key[0]) || !Nest(target, key[1])) return FailDepth();
  }
  if (kept || dict->kept) arena_.KeepAll();
  return {c.p, first};
}

}  // namespace reshard::pickle
