// The operations of the machine that name, record and fold what Python would have called.

#include <cstring>
#include <new>
#include <utility>

#include "formats/pickle/machine.h"

namespace reshard::pickle {

Machine::Cursor Machine::CopyLine(Cursor c, std::string_view* out) {
  const auto line = window_.Line(c.p);
  if (!line) return Fail(line.error());
  op_ = reinterpret_cast<const uint8_t*>(line->data());
  auto* text = static_cast<char*>(arena_.Allocate(line->size()));
  if (text == nullptr) return FailMemory();
  std::memcpy(text, line->data(), line->size());
  *out = {text, line->size()};
  return {op_ + line->size() + 1, c.top};
}

Machine::Cursor Machine::Global(Cursor c) {
  std::string_view module;
  std::string_view name;
  c = CopyLine(c, &module);
  if (c.p != nullptr) c = CopyLine(c, &name);
  return c.p == nullptr ? c : PushGlobal(c, module, name);
}

Machine::Cursor Machine::StackGlobal(Cursor c) {
  if (!Has(c, 2)) return FailUnderflow();
  const Value& module = c.top[-2];
  const Value& name = c.top[-1];
  if (!module.is(Kind::kString)) return FailType(module, "the name of a module");
  if (!name.is(Kind::kString)) return FailType(name, "a name in a module");
  return PushGlobal({c.p, c.top - 2}, module.text(), name.text());
}

Machine::Cursor Machine::PushGlobal(Cursor c, std::string_view module, std::string_view name) {
  void* memory = arena_.Allocate(sizeof(GlobalNode));
  if (memory == nullptr) return FailMemory();
  const FoldRule rule = folder_ == nullptr ? FoldRule() : folder_->OnGlobal(module, name);
  return Push(c, MakeNode(Kind::kGlobal, new (memory) GlobalNode{module, name, rule}));
}

Machine::Cursor Machine::PersistentId(Cursor c) {
  if (!Has(c, 1)) return FailUnderflow();
  void* memory = arena_.Allocate(sizeof(Value));
  if (memory == nullptr) return FailMemory();
  Value out = MakeNode(Kind::kPersistentId, new (memory) Value(c.top[-1]));
  if (!Nest(&out, c.top[-1])) return FailDepth();
  return Push({c.p, c.top - 1}, out);
}

Machine::Cursor Machine::Reduce(Cursor c) {
  if (!Has(c, 2)) return FailUnderflow();
  const ObjectParts parts{.callable = c.top[-2], .args = c.top[-1]};
  if (!parts.args.is(Kind::kTuple)) return FailType(parts.args, "a tuple of arguments");
  c.top -= 2;
  const FoldRule rule = RuleOf(parts.callable);
  if (rule.when == FoldAt::kCall) {
    if (const uint64_t handle = folder_->Fold(rule.tag, parts))
      return Push(c, MakeScalar(Kind::kFolded, handle));
  }
  return PushObject(c, parts);
}

Machine::Cursor Machine::NewObject(Cursor c) {
  if (!Has(c, 2)) return FailUnderflow();
  const ObjectParts parts{.callable = c.top[-2], .args = c.top[-1]};
  if (!parts.args.is(Kind::kTuple)) return FailType(parts.args, "a tuple of arguments");
  return PushObject({c.p, c.top - 2}, parts);
}

Machine::Cursor Machine::NewObjectEx(Cursor c) {
  if (!Has(c, 3)) return FailUnderflow();
  const ObjectParts parts{.callable = c.top[-3], .args = c.top[-2], .kwargs = c.top[-1]};
  if (!parts.args.is(Kind::kTuple)) return FailType(parts.args, "a tuple of arguments");
  if (!parts.kwargs.is(Kind::kDict)) return FailType(parts.kwargs, "a dict of arguments");
  return PushObject({c.p, c.top - 3}, parts);
}

Machine::Cursor Machine::PushObject(Cursor c, const ObjectParts& parts) {
  const uint64_t start = arena_.position();
  void* memory = arena_.Allocate(sizeof(ObjectNode));
  if (memory == nullptr) return FailMemory();
  Value out = MakeNode(Kind::kObject, new (memory) ObjectNode{.parts = parts, .start = start});
  if (!Nest(&out, parts.callable) || !Nest(&out, parts.args) || !Nest(&out, parts.kwargs))
    return FailDepth();
  return Push(c, out);
}

Machine::Cursor Machine::Build(Cursor c) {
  if (!Has(c, 2)) return FailUnderflow();
  const Value& state = c.top[-1];
  Value& target = c.top[-2];
  if (!target.is(Kind::kObject)) return FailType(target, "an object whose state is set");
  auto* object = MutableNode<ObjectNode>(target);
  object->parts.state = state;
  if (!Nest(&target, state)) return FailDepth();
  if (object->kept) arena_.KeepAll();

  const FoldRule rule = RuleOf(object->parts.callable);
  if (rule.when == FoldAt::kState) {
    if (const uint64_t handle = folder_->Fold(rule.tag, object->parts)) {
      target = MakeScalar(Kind::kFolded, handle);
      if (object->slot != kNoSlot) memo_.Set(object->slot, target);
      // The object has been on the stack since it was made, and whatever is reachable in another
      // way is below the arena's mark: so what lies above its start belongs to it alone.
      if (!object->kept) arena_.Rewind(object->start);
    }
  }
  return {c.p, c.top - 1};
}

}  // namespace reshard::pickle
