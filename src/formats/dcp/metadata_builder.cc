#include "formats/dcp/metadata_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "base/try.h"
#include "formats/dcp/relative_path.h"

namespace reshard::dcp {
namespace {

using pickle::Kind;
using pickle::Value;

const Value* DictField(const Value& root, std::string_view name) {
  if (!root.is(Kind::kObject) || !root.object().state.is(Kind::kDict)) return nullptr;
  const Value* field = root.object().state.Find(name);
  return field != nullptr && field->is(Kind::kDict) ? field : nullptr;
}

std::string Describe(const Value& value) {
  if (!value.is(Kind::kObject) || !value.object().callable.is(Kind::kGlobal))
    return "something that is no record of a tensor or an object";
  const Value& callable = value.object().callable;
  return fmt::format("a record {}.{} that is incomplete or not known", callable.module(),
                     callable.name());
}

bool IsBytesRecord(const Value& value) {
  return value.is(Kind::kObject) && value.object().callable.is(Kind::kGlobal) &&
         value.object().callable.name() == "BytesStorageMetadata";
}

// A tuple of dict keys and list indices.
std::optional<Path> ToPath(const Value& value) {
  if (!value.is(Kind::kTuple)) return std::nullopt;
  Path path;
  path.reserve(value.items().size());
  for (const Value& item : value.items()) {
    if (item.is(Kind::kString))
      path.emplace_back(std::string(item.text()));
    else if (item.is(Kind::kInt))
      path.emplace_back(item.as_int());
    else
      return std::nullopt;
  }
  return path;
}

}  // namespace

Error MetadataBuilder::Bad(std::string_view tensor, std::string found, std::string expected) const {
  return Error{.kind = ErrorKind::kSource,
               .file = file_,
               .tensor = std::string(tensor),
               .found = std::move(found),
               .expected = std::move(expected),
               .help =
                   "the checkpoint's metadata is damaged, or was written by a program that "
                   "reshard does not know"};
}

Result<Metadata> MetadataBuilder::Build(const Value& root) {
  const Value* state = DictField(root, "state_dict_metadata");
  const Value* storage = DictField(root, "storage_data");
  if (state == nullptr || storage == nullptr)
    return std::unexpected(Bad("",
                               "a pickle without the dicts state_dict_metadata and storage_data",
                               "the Metadata object of a PyTorch distributed checkpoint"));
  if (!storage->entries().empty()) {
    const Value& key = storage->entries()[0].key;
    const Handle handle(key.is(Kind::kFolded) ? key.handle() : 0);
    const std::string_view name =
        handle.type() == Class::kIndex
            ? folder_.names().texts()[folder_.indices()[handle.index()].name]
            : std::string_view();
    return std::unexpected(Bad(name, "an entry of storage_data of another shape",
                               "entries MetadataIndex -> _StorageInfo with a path, an offset and a "
                               "length"));
  }
  RESHARD_TRY(AddRecords(*state));
  if (const Value* paths = DictField(root, "planner_data")) AddPaths(*paths);
  RESHARD_TRY(CheckFiles());
  RESHARD_TRY(Join());
  RESHARD_TRY(FillObjects());
  RESHARD_TRY(FillChunks());
  RESHARD_TRY(SortTransforms());

  const auto& files = folder_.files().texts();
  out_.files.assign(files.begin(), files.end());
  out_.transforms = std::move(folder_.transforms());
  out_.boxes = std::move(folder_.ints());
  return std::move(out_);
}

Result<> MetadataBuilder::AddRecords(const Value& state) {
  used_.resize(folder_.tensors().size());
  for (const auto& [key, value] : state.entries()) {
    if (!key.is(Kind::kString))
      return std::unexpected(
          Bad("", "a key of state_dict_metadata that is no text", "the name of a tensor"));
    const std::string_view name = key.text();
    names_.Number(name);
    if (names_.texts().size() == records_.size())
      return std::unexpected(Bad(name, "a name that stands twice in state_dict_metadata", "once"));
    if (IsBytesRecord(value)) {
      records_.push_back({false, static_cast<uint32_t>(out_.objects.size())});
      out_.objects.push_back({.name = std::string(name), .path = {}});
    } else {
      records_.push_back({true, static_cast<uint32_t>(out_.tensors.size())});
      RESHARD_TRY(AddTensor(name, value));
    }
  }
  return {};
}

Result<> MetadataBuilder::AddTensor(std::string_view name, const Value& value) {
  const Handle handle = value.is(Kind::kFolded) ? Handle(value.handle()) : Handle();
  if (handle.type() != Class::kTensor)
    return std::unexpected(
        Bad(name, Describe(value), "TensorStorageMetadata or BytesStorageMetadata"));
  if (used_[handle.index()])
    return std::unexpected(Bad(name, "a record that another name has too", "one of its own"));
  used_[handle.index()] = true;

  const MetadataFolder::Tensor& tensor = folder_.tensors()[handle.index()];
  if (tensor.problem != MetadataFolder::kNone)
    return std::unexpected(Bad(name, folder_.problems()[tensor.problem],
                               "a dense tensor of a type that torch.save writes, and chunks of its "
                               "rank with sizes that are no negative numbers"));
  const MetadataFolder::Properties& properties = folder_.properties()[tensor.properties];
  const auto shape =
      std::span<const int64_t>(folder_.ints()).subspan(tensor.size.index(), tensor.size.rank());
  out_.tensors.push_back({.name = std::string(name),
                          .dtype = properties.dtype,
                          .shape = Shape(shape.begin(), shape.end()),
                          .requires_grad = properties.requires_grad,
                          .first_chunk = tensor.first_chunk,
                          .chunk_count = tensor.chunk_count,
                          .path = {}});
  ranges_.push_back(
      {.first = tensor.first_chunk, .count = tensor.chunk_count, .rank = tensor.size.rank()});
  return {};
}

void MetadataBuilder::AddPaths(const Value& planner_data) {
  uint64_t skipped = 0;
  for (const auto& [key, value] : planner_data.entries()) {
    const auto number = key.is(Kind::kString) ? names_.Find(key.text()) : std::nullopt;
    if (!number) continue;
    const auto path = ToPath(value);
    if (!path) {
      ++skipped;
      continue;
    }
    const Record& record = records_[*number];
    (record.is_tensor ? out_.tensors[record.index].path : out_.objects[record.index].path) = *path;
  }
  if (skipped != 0)
    out_.notes.push_back(fmt::format(
        "planner_data gives {} names a path that is no tuple of names and numbers; ignored",
        skipped));
}

Result<> MetadataBuilder::CheckFiles() const {
  for (const std::string& path : folder_.files().texts())
    if (const auto problem = PathProblem(path))
      return std::unexpected(Bad("", fmt::format("the file name {:?}, which {}", path, *problem),
                                 "a path that stays within the checkpoint's directory"));
  return {};
}

Result<> MetadataBuilder::Join() {
  storage_of_chunk_.assign(folder_.chunk_boxes().size(), MetadataFolder::kNone);
  storage_of_object_.assign(out_.objects.size(), MetadataFolder::kNone);
  std::vector<std::optional<uint32_t>> record_of;
  for (const std::string& name : folder_.names().texts()) record_of.push_back(names_.Find(name));

  ChunkJoin join(folder_.ints(), folder_.chunk_boxes());
  uint64_t unknown = 0;
  for (const MetadataFolder::Index& index : folder_.indices()) {
    if (index.storage == MetadataFolder::kNone) continue;
    const auto number = record_of[index.name];
    if (!number) {
      ++unknown;
    } else if (const Record& record = records_[*number]; record.is_tensor) {
      RESHARD_TRY(JoinChunk(index, record.index, &join));
    } else {
      storage_of_object_[record.index] = index.storage;
    }
  }
  if (unknown != 0)
    out_.notes.push_back(
        fmt::format("{} stored entries belong to no name in the state dict; ignored", unknown));
  folder_.indices() = std::vector<MetadataFolder::Index>();
  return {};
}

Result<> MetadataBuilder::JoinChunk(const MetadataFolder::Index& index, uint32_t tensor,
                                    ChunkJoin* join) {
  ChunkJoin::Range& range = ranges_[tensor];
  if (index.rank != range.rank)
    return std::unexpected(Bad(out_.tensors[tensor].name,
                               "a stored entry whose offset has another number of dimensions",
                               fmt::format("{} dimensions", range.rank)));
  const uint32_t chunk = join->Find(&range, index.start);
  // What is not found is the entry of an empty chunk.
  if (chunk != ChunkJoin::kNone) storage_of_chunk_[chunk] = index.storage;
  return {};
}

Result<> MetadataBuilder::FillChunks() {
  // Entries are stored rank by rank, chunks listed tensor by tensor: each is far from the one
  // before.
  constexpr uint32_t kAhead = 16;
  const std::vector<uint32_t>& boxes = folder_.chunk_boxes();
  const std::vector<MetadataFolder::Storage>& storages = folder_.storages();
  out_.chunks.reserve(boxes.size());
  for (TensorRecord& tensor : out_.tensors) {
    const uint32_t begin = tensor.first_chunk;
    const uint32_t end = begin + tensor.chunk_count;
    tensor.first_chunk = static_cast<uint32_t>(out_.chunks.size());
    for (uint32_t i = begin; i < end; ++i) {
      if (i + kAhead < end && storage_of_chunk_[i + kAhead] != MetadataFolder::kNone)
        __builtin_prefetch(&storages[storage_of_chunk_[i + kAhead]]);
      if (storage_of_chunk_[i] == MetadataFolder::kNone)
        return std::unexpected(Bad(
            tensor.name,
            fmt::format(
                "a chunk at ({}) without an entry in storage_data",
                fmt::join(std::span(folder_.ints()).subspan(boxes[i], tensor.shape.size()), ", ")),
            "one entry for each chunk"));
      const MetadataFolder::Storage& storage = storages[storage_of_chunk_[i]];
      out_.chunks.push_back({storage.offset, storage.length, storage.file, boxes[i]});
      NoteTransforms(storage);
    }
  }
  folder_.storages() = std::vector<MetadataFolder::Storage>();
  storage_of_chunk_ = std::vector<uint32_t>();
  return {};
}

Result<> MetadataBuilder::FillObjects() {
  for (size_t i = 0; i < out_.objects.size(); ++i) {
    ObjectRecord& object = out_.objects[i];
    if (storage_of_object_[i] == MetadataFolder::kNone)
      return std::unexpected(
          Bad(object.name, "an object without an entry in storage_data", "one entry for it"));
    const MetadataFolder::Storage& storage = folder_.storages()[storage_of_object_[i]];
    object.file = storage.file;
    object.offset = storage.offset;
    object.length = storage.length;
    NoteTransforms(storage);
  }
  return {};
}

void MetadataBuilder::NoteTransforms(const MetadataFolder::Storage& storage) {
  if (storage.transforms != 0)
    out_.transformed_entries.push_back({storage.file, storage.transforms, storage.offset});
}

Result<> MetadataBuilder::SortTransforms() {
  auto& entries = out_.transformed_entries;
  const auto position = [](const TransformedEntry& e) { return std::pair(e.file, e.offset); };
  std::ranges::sort(entries, {}, position);
  for (size_t i = 1; i < entries.size(); ++i)
    if (position(entries[i]) == position(entries[i - 1]) &&
        entries[i].transforms != entries[i - 1].transforms)
      return std::unexpected(
          Bad("",
              fmt::format("two lists of transforms for the bytes at {} of {}", entries[i].offset,
                          folder_.files().texts()[entries[i].file]),
              "one"));
  const auto rest = std::ranges::unique(entries, {}, position);
  entries.erase(rest.begin(), rest.end());
  return {};
}

}  // namespace reshard::dcp
