// Any bytes as a pickle: every value that comes out is visited.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/byte_source.h"
#include "formats/pickle/pickle.h"

namespace {

using reshard::pickle::Kind;
using reshard::pickle::Value;

// Values may hold themselves, and share parts without bound: depth and visits are both counted.
void Visit(const Value& value, int depth, int* visits) {
  if (depth > 64 || ++*visits > 10000) return;
  const auto each = [&](const Value& part) { Visit(part, depth + 1, visits); };
  switch (value.kind()) {
    case Kind::kString:
    case Kind::kBytes:
      for (char c : value.text()) *visits += c == '\0';
      break;
    case Kind::kTuple:
    case Kind::kList:
    case Kind::kSet:
      for (const Value& item : value.items()) each(item);
      break;
    case Kind::kDict:
      for (const auto& [key, entry] : value.entries()) each(key), each(entry);
      (void)value.Find("key");
      break;
    case Kind::kGlobal:
      *visits += value.IsGlobal("torch", "float32");
      break;
    case Kind::kObject: {
      const auto& object = value.object();
      for (const Value* part : {&object.callable, &object.args, &object.kwargs, &object.state,
                                &object.items, &object.entries})
        each(*part);
      break;
    }
    case Kind::kPersistentId:
      each(value.persistent_id());
      break;
    default:
      break;
  }
}

// Folds whatever it is asked about, every third object excepted.
class AnyFolder final : public reshard::pickle::Folder {
 public:
  reshard::pickle::FoldRule OnGlobal(std::string_view module, std::string_view name) override {
    using reshard::pickle::FoldAt;
    return {module.size() % 2 == 0 ? FoldAt::kCall : FoldAt::kState,
            static_cast<uint32_t>(name.size())};
  }
  uint64_t Fold(uint32_t, const reshard::pickle::ObjectParts& object) override {
    int visits = 0;
    Visit(object.args, 0, &visits);
    Visit(object.state, 0, &visits);
    return ++count_ % 3;
  }
  bool FoldEntry(uint64_t key, uint64_t) override { return key == 1; }

 private:
  uint64_t count_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const reshard::MemorySource source(std::as_bytes(std::span(data, size)));
  const reshard::pickle::Limits limits = {
      .max_depth = 100, .max_string = 1 << 20, .max_memory = 1 << 24};
  AnyFolder folder;
  for (reshard::pickle::Folder* used : {static_cast<reshard::pickle::Folder*>(nullptr),
                                        static_cast<reshard::pickle::Folder*>(&folder)}) {
    const auto document = reshard::pickle::Decode(source, 0, limits, used);
    int visits = 0;
    if (document) Visit(document->root(), 0, &visits);
  }
  return 0;
}
