#include "formats/torch_save/value_stack.h"

namespace reshard::torch_save {

using pickle::Kind;
using pickle::Value;

Value ValueStack::Pop() {
  const Value value = stack_.back();
  stack_.pop_back();
  if (value.is(Kind::kTuple) || value.is(Kind::kList) || value.is(Kind::kSet)) {
    if (!IsNew(value.items().data())) return value;
    for (const Value& item : value.items()) Push(item);
  } else if (value.is(Kind::kDict)) {
    if (!IsNew(value.entries().data())) return value;
    for (const pickle::DictEntry& entry : value.entries()) {
      Push(entry.key);
      Push(entry.value);
    }
  } else if (value.is(Kind::kObject)) {
    const pickle::ObjectParts& parts = value.object();
    if (!IsNew(&parts)) return value;
    for (const Value& part : {parts.args, parts.kwargs, parts.state, parts.items, parts.entries})
      Push(part);
  }
  return value;
}

void ValueStack::Push(const Value& value) {
  ++looked_at_;
  switch (value.kind()) {
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kSet:
    case Kind::kDict:
    case Kind::kObject:
    case Kind::kPersistentId:
      stack_.push_back(value);
      break;
    default:
      break;
  }
}

}  // namespace reshard::torch_save
