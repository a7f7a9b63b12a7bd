#include "formats/dcp/metadata_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/checked_math.h"

namespace reshard::dcp {
namespace {

using pickle::FoldAt;
using pickle::FoldRule;
using pickle::Kind;
using pickle::ObjectParts;
using pickle::Value;

// PyTorch's own limit on dimensions.
constexpr size_t kMaxRank = 64;
constexpr size_t kMaxTransformLists = 4096;
constexpr size_t kMaxRecords = std::numeric_limits<uint32_t>::max() - 1;

// The field of that name in the object's state, or null. Picklers write the fields in the order of
// the class, so `position` is tried first.
template <size_t kSize>
const Value* Field(const ObjectParts& object, const char (&name)[kSize], size_t position) {
  if (!object.state.is(Kind::kDict)) return nullptr;
  const std::span<const pickle::DictEntry> entries = object.state.entries();
  if (position < entries.size() && entries[position].key.is(Kind::kString)) {
    const std::string_view key = entries[position].key.text();
    if (key.size() == kSize - 1 && std::memcmp(key.data(), name, kSize - 1) == 0)
      return &entries[position].value;
  }
  return object.state.Find(name);
}

Handle Folded(const Value* value, Class type) {
  if (value == nullptr || !value->is(Kind::kFolded)) return {};
  const Handle handle(value->handle());
  return handle.type() == type ? handle : Handle();
}

// `torch.serialization._get_layout('torch.strided')`.
bool IsStrided(const Value& layout) {
  return layout.IsObject("torch.serialization", "_get_layout") &&
         layout.object().args.items().size() == 1 &&
         layout.object().args.items()[0].is(Kind::kString) &&
         layout.object().args.items()[0].text() == "torch.strided";
}

std::optional<uint64_t> Unsigned(const Value* value) {
  if (value == nullptr || !value->is(Kind::kInt) || value->as_int() < 0) return std::nullopt;
  return static_cast<uint64_t>(value->as_int());
}

}  // namespace

// A chunk takes some 140 bytes of the document, and 12 for each coordinate. Memory that is reserved
// and not used stays untouched, whereas growing would copy what there is, time and again.
MetadataFolder::MetadataFolder(uint64_t max_memory, uint64_t document_size)
    : max_ints_(std::min<uint64_t>(max_memory / sizeof(int64_t), kMaxRecords)) {
  ints_.reserve(std::min(max_ints_, document_size / 12));
  const uint64_t chunks = std::min<uint64_t>(max_ints_, document_size / 128);
  chunk_boxes_.reserve(chunks);
  indices_.reserve(chunks);
  storages_.reserve(chunks);
}

FoldRule MetadataFolder::OnGlobal(std::string_view module, std::string_view name) {
  if (module == "torch" && name == "Size") return {FoldAt::kCall, uint32_t(Class::kSize)};
  const auto at_state = [](Class type) { return FoldRule{FoldAt::kState, uint32_t(type)}; };
  // Whoever writes to a storage of his own brings this class along: OLMo-core's is
  // olmo_core.distributed.checkpoint.filesystem._StorageInfo, with the same fields.
  if (name == "_StorageInfo") return at_state(Class::kStorage);
  // The classes moved between torch 2.2 and 2.3, so the module is not compared whole.
  if (!module.starts_with("torch.distributed.")) return {};
  if (name == "ChunkStorageMetadata") return at_state(Class::kChunk);
  if (name == "MetadataIndex") return at_state(Class::kIndex);
  if (name == "TensorProperties") return at_state(Class::kProperties);
  if (name == "TensorStorageMetadata") return at_state(Class::kTensor);
  return {};
}

uint64_t MetadataFolder::Fold(uint32_t tag, const ObjectParts& object) {
  switch (static_cast<Class>(tag)) {
    case Class::kNone:
      break;
    case Class::kSize:
      return FoldSize(object).bits();
    case Class::kProperties:
      return FoldProperties(object).bits();
    case Class::kChunk:
      return FoldChunk(object).bits();
    case Class::kTensor:
      return FoldTensor(object).bits();
    case Class::kIndex:
      return FoldIndex(object).bits();
    case Class::kStorage:
      return FoldStorage(object).bits();
  }
  return 0;
}

bool MetadataFolder::FoldEntry(uint64_t key, uint64_t value) {
  const Handle index(key);
  const Handle storage(value);
  if (index.type() != Class::kIndex || storage.type() != Class::kStorage) return false;
  indices_[index.index()].storage = storage.index();
  return true;
}

Handle MetadataFolder::FoldSize(const ObjectParts& object) {
  const std::span<const Value> args = object.args.items();
  if (args.size() != 1 || !args[0].is(Kind::kTuple)) return {};
  return AppendInts(args[0].items());
}

Handle MetadataFolder::AppendInts(std::span<const Value> items) {
  if (items.size() > kMaxRank || !HasRoom(items.size())) return {};
  for (const Value& item : items)
    if (!item.is(Kind::kInt)) return {};
  const auto index = static_cast<uint32_t>(ints_.size());
  for (const Value& item : items) ints_.push_back(item.as_int());
  return Handle(Class::kSize, index, static_cast<uint32_t>(items.size()));
}

Handle MetadataFolder::Size(const Value* value) {
  if (const Handle size = Folded(value, Class::kSize)) return size;
  if (value == nullptr || !value->is(Kind::kTuple)) return {};
  return AppendInts(value->items());
}

Handle MetadataFolder::FoldProperties(const ObjectParts& object) {
  // (dtype, layout, requires_grad, memory format, pin_memory[, strides from torch 2.15 on])
  if (!object.state.is(Kind::kTuple) || properties_.size() > kMaxRecords) return {};
  const std::span<const Value> state = object.state.items();
  if (state.size() != 5 && state.size() != 6) return {};
  Properties out;
  const Value& dtype = state[0];
  if (!dtype.is(Kind::kGlobal)) return {};
  const auto known = dtype.module() == "torch" ? ParseDType(dtype.name()) : std::optional<DType>();
  if (known)
    out.dtype = *known;
  else
    out.problem = AddProblem(
        fmt::format("the element type {}.{}, which is not known", dtype.module(), dtype.name()));
  if (!IsStrided(state[1]) && out.problem == kNone)
    out.problem = AddProblem("a layout other than torch.strided");
  out.requires_grad = state[2].is(Kind::kBool) && state[2].as_bool();
  properties_.push_back(out);
  return Handle(Class::kProperties, static_cast<uint32_t>(properties_.size() - 1));
}

Handle MetadataFolder::FoldChunk(const ObjectParts& object) {
  const Handle start = Size(Field(object, "offsets", 0));
  const Handle extent = Size(Field(object, "sizes", 1));
  if (!start || !extent || start.rank() != extent.rank()) return {};
  // A box is the start with the extent behind it, which is how they are written; where one of them
  // is shared with another object, both are copied.
  const uint32_t rank = start.rank();
  if (extent.index() == start.index() + rank) return Handle(Class::kChunk, start.index(), rank);
  if (!HasRoom(2 * rank)) return {};
  const auto box = static_cast<uint32_t>(ints_.size());
  for (const Handle& part : {start, extent})
    for (uint32_t d = 0; d < rank; ++d) ints_.push_back(ints_[part.index() + d]);
  return Handle(Class::kChunk, box, rank);
}

Handle MetadataFolder::FoldTensor(const ObjectParts& object) {
  const Handle properties = Folded(Field(object, "properties", 0), Class::kProperties);
  const Handle size = Size(Field(object, "size", 1));
  if (!properties || !size || tensors_.size() > kMaxRecords) return {};
  Tensor out{.properties = properties.index(), .size = size};
  out.problem = properties_[out.properties].problem;
  const std::span<const int64_t> shape = Span(size.index(), size.rank());
  if (!CheckedNumel(shape) && out.problem == kNone)
    out.problem =
        AddProblem(fmt::format("the shape ({}), which no tensor can have", fmt::join(shape, ", ")));
  if (!AddChunks(Field(object, "chunks", 2), &out)) return {};
  tensors_.push_back(out);
  return Handle(Class::kTensor, static_cast<uint32_t>(tensors_.size() - 1));
}

bool MetadataFolder::AddChunks(const Value* chunks, Tensor* tensor) {
  if (chunks == nullptr || !(chunks->is(Kind::kList) || chunks->is(Kind::kTuple))) return false;
  if (chunk_boxes_.size() + chunks->items().size() > kMaxRecords) return false;
  tensor->first_chunk = static_cast<uint32_t>(chunk_boxes_.size());
  const uint32_t rank = tensor->size.rank();
  for (const Value& item : chunks->items()) {
    const Handle chunk = Folded(&item, Class::kChunk);
    if (!chunk) return false;
    if (chunk.rank() != rank) {
      tensor->problem =
          AddProblem(fmt::format("a chunk of {} dimensions in a tensor of {}", chunk.rank(), rank));
      return true;
    }
    const std::span<const int64_t> box = Span(chunk.index(), 2 * rank);
    bool empty = false;
    for (uint32_t d = 0; d < rank; ++d) {
      if (box[d] < 0 || box[rank + d] < 0 || !CheckedAdd(box[d], box[rank + d])) {
        tensor->problem =
            AddProblem(fmt::format("a chunk at ({}) of size ({})", fmt::join(box.first(rank), ", "),
                                   fmt::join(box.last(rank), ", ")));
        return true;
      }
      empty |= box[rank + d] == 0;
    }
    // A rank that got no part of a tensor says so with an empty chunk.
    if (!empty) chunk_boxes_.push_back(chunk.index());
  }
  tensor->chunk_count = static_cast<uint32_t>(chunk_boxes_.size()) - tensor->first_chunk;
  return true;
}

Handle MetadataFolder::FoldIndex(const ObjectParts& object) {
  const Value* name = Field(object, "fqn", 0);
  if (name == nullptr || !name->is(Kind::kString) || indices_.size() > kMaxRecords) return {};
  Index out;
  const Value* offset = Field(object, "offset", 2);
  if (offset != nullptr && !offset->is(Kind::kNone)) {
    const Handle start = Size(offset);
    if (!start) return {};
    out.start = start.index();
    out.rank = start.rank();
  }
  out.name = names_.Number(name->text());
  indices_.push_back(out);
  return Handle(Class::kIndex, static_cast<uint32_t>(indices_.size() - 1));
}

Handle MetadataFolder::FoldStorage(const ObjectParts& object) {
  const Value* path = Field(object, "relative_path", 0);
  const auto offset = Unsigned(Field(object, "offset", 1));
  const auto length = Unsigned(Field(object, "length", 2));
  const auto transforms = TransformList(Field(object, "transform_descriptors", 3));
  if (path == nullptr || !path->is(Kind::kString) || !offset || !length || !transforms ||
      storages_.size() > kMaxRecords)
    return {};
  storages_.push_back({*offset, *length, files_.Number(path->text()), *transforms});
  return Handle(Class::kStorage, static_cast<uint32_t>(storages_.size() - 1));
}

std::optional<uint32_t> MetadataFolder::TransformList(const Value* value) {
  if (value == nullptr || value->is(Kind::kNone)) return 0;
  if (!value->is(Kind::kList) && !value->is(Kind::kTuple)) return std::nullopt;
  Transforms list;
  for (const Value& item : value->items()) {
    if (!item.is(Kind::kString)) return std::nullopt;
    list.emplace_back(item.text());
  }
  // A checkpoint has one list, or a few.
  const auto found = std::find(transforms_.rbegin(), transforms_.rend(), list);
  if (found == transforms_.rend()) {
    if (transforms_.size() == kMaxTransformLists) return std::nullopt;
    transforms_.push_back(std::move(list));
    return static_cast<uint32_t>(transforms_.size() - 1);
  }
  return static_cast<uint32_t>(transforms_.rend() - found - 1);
}

uint32_t MetadataFolder::AddProblem(std::string text) {
  problems_.push_back(std::move(text));
  return static_cast<uint32_t>(problems_.size() - 1);
}

}  // namespace reshard::dcp
