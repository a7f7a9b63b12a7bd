#include <ranges>

#include "formats/pickle/nodes.h"
#include "formats/pickle/pickle.h"

namespace reshard::pickle {

bool Value::IsGlobal(std::string_view module, std::string_view name) const {
  return kind() == Kind::kGlobal && this->name() == name && this->module() == module;
}

bool Value::IsObject(std::string_view module, std::string_view name) const {
  return kind() == Kind::kObject && object().callable.IsGlobal(module, name);
}

std::span<const Value> Value::items() const {
  if (kind() == Kind::kTuple) return {static_cast<const Value*>(node()), size()};
  const auto* list = static_cast<const ListNode*>(node());
  return {list->items, list->size};
}

std::span<const DictEntry> Value::entries() const {
  const auto* dict = static_cast<const DictNode*>(node());
  return {dict->entries, dict->size};
}

std::string_view Value::module() const { return static_cast<const GlobalNode*>(node())->module; }

std::string_view Value::name() const { return static_cast<const GlobalNode*>(node())->name; }

const ObjectParts& Value::object() const { return static_cast<const ObjectNode*>(node())->parts; }

const Value& Value::persistent_id() const { return *static_cast<const Value*>(node()); }

const Value* Value::Find(std::string_view key) const {
  for (const DictEntry& entry : entries() | std::views::reverse)
    if (entry.key.is(Kind::kString) && entry.key.text() == key) return &entry.value;
  return nullptr;
}

}  // namespace reshard::pickle
