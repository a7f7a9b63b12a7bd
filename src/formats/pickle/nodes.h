#ifndef RESHARD_FORMATS_PICKLE_NODES_H_
#define RESHARD_FORMATS_PICKLE_NODES_H_

#include <cstdint>
#include <string_view>

#include "formats/pickle/pickle.h"

/// What the values of a document point to; all of it lies in the document's arena.
namespace reshard::pickle {

struct GlobalNode {
  std::string_view module;
  std::string_view name;
  FoldRule rule;
};

/// `kept`: an opcode may still reach the container through the memo, so what is added to it later
/// must be kept too.
struct ListNode {
  Value* items = nullptr;
  uint32_t size = 0;
  uint32_t capacity = 0;
  bool kept = false;
};

struct DictNode {
  DictEntry* entries = nullptr;
  uint32_t size = 0;
  uint32_t capacity = 0;
  bool kept = false;
};

inline constexpr uint32_t kNoSlot = ~uint32_t{0};

struct ObjectNode {
  ObjectParts parts;
  uint64_t start = 0;       // the arena's position before the object
  uint32_t slot = kNoSlot;  // where the memo has it, if it does
  bool kept = false;
};

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_NODES_H_
