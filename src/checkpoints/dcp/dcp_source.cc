#include "checkpoints/dcp/dcp_source.h"

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include <fmt/format.h>

#include "base/try.h"
#include "checkpoints/dcp/zstd_entry.h"
#include "checkpoints/file_source.h"
#include "checkpoints/torch_save_tensors.h"
#include "formats/dcp/dcp_metadata.h"
#include "formats/dcp/state_dict_paths.h"
#include "formats/safetensors/safetensors.h"
#include "io/directory.h"
#include "recipe/regex.h"
#include "view/lower.h"
#include "view/shape_text.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// Values of objects are shown where they are small and few; the rest are named only.
constexpr uint64_t kMaxShownBytes = 64 << 10;
constexpr size_t kMaxShownObjects = 1000;

// Objects that are carried are in memory together.
constexpr uint64_t kMaxObjectBytes = 64 << 20;

// A part of a file that keeps the file open.
class EntryBytes final : public ByteSource {
 public:
  EntryBytes(std::shared_ptr<const InputFile> file, uint64_t offset, uint64_t length)
      : file_(std::move(file)), part_(*file_, offset, length) {}
  uint64_t size() const override { return part_.size(); }
  const std::string& name() const override { return part_.name(); }
  uint64_t origin() const override { return part_.origin(); }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    return part_.ReadAt(offset, out);
  }

 private:
  std::shared_ptr<const InputFile> file_;
  SubSource part_;
};

class DcpSource final : public FileSource {
 public:
  DcpSource(const fs::path& directory, std::string evidence)
      : FileSource("dcp", std::move(evidence), directory) {}

  Result<> Open(const std::vector<std::string>& metadata_files) {
    // Metadata files decide what is read, so they count as part of the source's state: as it is before
    // they are read.
    std::vector<SourceFile> states;
    for (const std::string& file : metadata_files) {
      RESHARD_ASSIGN(states.emplace_back(), StatFile(root(), file));
    }
    RESHARD_ASSIGN(dcp::Metadata metadata, ReadMetadata(metadata_files));
    CatalogBuilder builder;
    for (uint32_t file = 0; file < metadata.files.size(); ++file)
      if (auto added = AddFile(metadata.files[file], &builder); !added)
        return std::unexpected(MissingFile(metadata, file, std::move(added).error()));
    builder.TakeChunks(std::move(metadata.chunks), std::move(metadata.boxes));
    for (dcp::TensorRecord& tensor : metadata.tensors)
      builder.AddTensorOfChunks(std::move(tensor.name), tensor.dtype, std::move(tensor.shape),
                                tensor.first_chunk, tensor.chunk_count);
    metadata_ = std::move(metadata);
    notes_ = std::move(metadata_.notes);
    for (const dcp::ObjectRecord& object : metadata_.objects)
      builder.AddObject({.name = object.name,
                         .summary = Show(object, metadata_.objects.size()),
                         .byte_size = object.length});
    for (SourceFile& state : states) AddFile(std::move(state), &builder);
    RESHARD_ASSIGN(catalog_, std::move(builder).Build(root()));
    return {};
  }

  StatePath PathOf(std::string_view name) const override {
    const auto at = Index().paths.find(name);
    return at == index_.paths.end() ? StatePath() : *at->second;
  }

  Result<std::optional<std::string>> ReadObject(const Object& object) const override {
    const auto at = Index().objects.find(object.name);
    if (at == index_.objects.end()) return std::nullopt;
    const dcp::ObjectRecord& record = *at->second;
    RESHARD_ASSIGN(const auto entry, OpenEntry(record.file, record.offset, record.length));
    if (entry->size() > kMaxObjectBytes)
      return std::unexpected(
          Error{.kind = ErrorKind::kMapping,
                .file = entry->name(),
                .tensor = object.name,
                .found = fmt::format("an object of {} bytes", entry->size()),
                .expected = fmt::format("at most {}", kMaxObjectBytes),
                .help = fmt::format("leave it out with --ignore '^{}$'",
                                    Regex::Escape(object.name))});
    std::string bytes(entry->size(), '\0');
    RESHARD_TRY(entry->ReadAt(0, std::as_writable_bytes(std::span(bytes))));
    return bytes;
  }

  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const override {
    auto layout = LocateEntry(tensor, chunk);
    if (!layout && layout.error().tensor.empty()) layout.error().tensor = tensor.name;
    return layout;
  }

  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override {
    if (file < files_.count()) return files_.ReadAt(file, offset, out);
    const ByteSource* entry;
    {
      std::lock_guard lock(mutex_);
      entry = decoded_[file - files_.count()].get();
    }
    return entry->ReadAt(offset, out);
  }

 private:
  static Error MissingFile(const dcp::Metadata& metadata, uint32_t file, Error error) {
    const auto in_file = [&](const Chunk& chunk) { return chunk.file == file; };
    for (const dcp::TensorRecord& tensor : metadata.tensors) {
      const auto chunks =
          std::span(metadata.chunks).subspan(tensor.first_chunk, tensor.chunk_count);
      if (std::ranges::find_if(chunks, in_file) == chunks.end()) continue;
      error.tensor = tensor.name;
      break;
    }
    error.expected = "this file, where the metadata says that part of the tensor lies";
    error.help = "copy the checkpoint again, with the files of every rank";
    return error;
  }

  Result<dcp::Metadata> ReadMetadata(const std::vector<std::string>& names) const {
    std::vector<dcp::Metadata> parts;
    for (const std::string& name : names) {
      RESHARD_ASSIGN(const auto file, InputFile::Open(fs::path(root()) / name));
      RESHARD_ASSIGN(dcp::Metadata part, dcp::DecodeMetadata(*file));
      parts.push_back(std::move(part));
    }
    if (parts.size() == 1) return std::move(parts[0]);
    return dcp::MergeMetadata(std::move(parts));
  }

  // The entry's bytes as they were before any transform: those of the file, mostly.
  Result<std::unique_ptr<ByteSource>> OpenEntry(uint32_t file, uint64_t offset,
                                                uint64_t length) const {
    RESHARD_ASSIGN(auto opened, files_.Open(file));
    std::unique_ptr<ByteSource> entry =
        std::make_unique<EntryBytes>(std::move(opened), offset, length);
    const auto transforms = metadata_.TransformsOf(file, offset);
    for (auto transform = transforms.rbegin(); transform != transforms.rend(); ++transform) {
      if (*transform != "stream.zstd/1")
        return std::unexpected(
            Error{.kind = ErrorKind::kSource,
                  .file = entry->name(),
                  .offset = offset,
                  .found = fmt::format("the entry went through the extension '{}'", *transform),
                  .expected = "no extension, or stream.zstd/1",
                  .help = "save the checkpoint again without this extension"});
      RESHARD_ASSIGN(entry, ZstdEntry::Open(std::move(entry)));
    }
    return entry;
  }

  Result<ChunkLayout> LocateEntry(const Tensor& tensor, const Chunk& chunk) const {
    RESHARD_ASSIGN(auto entry, OpenEntry(chunk.file, chunk.offset, chunk.length));
    const bool decoded = !metadata_.TransformsOf(chunk.file, chunk.offset).empty();
    std::array<std::byte, 4> magic{};
    if (entry->size() >= magic.size()) RESHARD_TRY(entry->ReadAt(0, magic));
    const bool zip = std::to_integer<char>(magic[0]) == 'P' && std::to_integer<char>(magic[1]) == 'K';
    // Of a tensor with no dimensions or few bytes, the entry's length is no help in telling the two
    // apart; the first bytes of a safetensors header are its length, far below "PK\3\4".
    if (!zip && !decoded) {
      RESHARD_ASSIGN(const bool safetensors, IsSafetensors(chunk));
      if (safetensors) return LocateInSafetensors(tensor, chunk);
    }
    RESHARD_ASSIGN(const torch_save::TensorEntry stored, torch_save::DecodeTensorEntry(*entry));
    RESHARD_TRY(Agree(tensor, chunk, stored.dtype, stored.shape));
    if (!decoded) return LayoutOf(stored, chunk.file, chunk.offset);
    std::lock_guard lock(mutex_);
    decoded_.push_back(std::move(entry));
    return LayoutOf(stored, static_cast<uint32_t>(files_.count() + decoded_.size() - 1), 0);
  }

  Result<> Agree(const Tensor& tensor, const Chunk& chunk, DType dtype, const Shape& shape) const {
    const auto extent = catalog_.Box(tensor, chunk).extent;
    if (dtype == tensor.dtype && std::ranges::equal(shape, extent)) return {};
    return std::unexpected(Error{
        .kind = ErrorKind::kSource,
        .file = root() + "/" + catalog_.files()[chunk.file].path,
        .offset = chunk.offset,
        .tensor = tensor.name,
        .found = fmt::format("the stored chunk is {} {}", DTypeName(dtype), ShapeText(shape)),
        .expected = fmt::format("{} {}, as the metadata says", DTypeName(tensor.dtype),
                                ShapeText(extent)),
        .help = "data and metadata are of different saves: save the checkpoint again"});
  }

  // With serialization_format=SAFETENSORS every entry of a file points at one blob, whose header
  // says where the tensors are.
  Result<bool> IsSafetensors(const Chunk& chunk) const {
    RESHARD_ASSIGN(const auto file, files_.Open(chunk.file));
    std::array<std::byte, 9> start;
    if (file->size() < chunk.offset + start.size()) return false;
    RESHARD_TRY(file->ReadAt(chunk.offset, start));
    return start[8] == std::byte{'{'} && start[7] == std::byte{0};
  }

  Result<ChunkLayout> LocateInSafetensors(const Tensor& tensor, const Chunk& chunk) const {
    std::lock_guard lock(mutex_);
    auto& header = headers_[{chunk.file, chunk.offset}];
    if (header.empty()) {
      RESHARD_ASSIGN(const auto file, files_.Open(chunk.file));
      RESHARD_ASSIGN(safetensors::Header decoded, safetensors::DecodeHeader(*file, chunk.offset));
      for (safetensors::TensorInfo& info : decoded.tensors)
        header.emplace(info.name, std::move(info));
    }
    const auto at = header.find(tensor.name);
    if (at == header.end())
      return std::unexpected(Error{.kind = ErrorKind::kSource,
                                   .file = root() + "/" + catalog_.files()[chunk.file].path,
                                   .offset = chunk.offset,
                                   .tensor = tensor.name,
                                   .found = "the safetensors data here does not hold this tensor",
                                   .expected = "to find it, as the metadata says",
                                   .help = "the file is damaged: copy it again"});
    RESHARD_TRY(Agree(tensor, chunk, at->second.dtype, at->second.shape));
    return ChunkLayout{.file = chunk.file,
                       .offset = at->second.begin,
                       .strides = RowMajorStrides(at->second.shape)};
  }

  std::string Show(const dcp::ObjectRecord& object, size_t objects) const {
    if (object.length > kMaxShownBytes || objects > kMaxShownObjects) return "an object";
    auto entry = OpenEntry(object.file, object.offset, object.length);
    if (!entry) return "unreadable: " + entry.error().found;
    const auto archive = torch_save::DecodeFile(**entry);
    if (!archive) return "unreadable: " + archive.error().found;
    const size_t values =
        archive->objects.size() + archive->unreadable.size() + archive->tensors.size();
    if (values == 1 && !archive->objects.empty()) return archive->objects[0].summary;
    if (values == 1 && !archive->unreadable.empty()) return archive->unreadable[0].what;
    return fmt::format("a tree of {} values", values);
  }

  // What the metadata says of a name. The catalog has taken the names; a path gives its own back.
  struct NameIndex {
    std::map<std::string, const dcp::Path*, std::less<>> paths;
    std::map<std::string_view, const dcp::ObjectRecord*> objects;
  };

  // Made where it is first asked for: only what keeps all names does.
  const NameIndex& Index() const {
    std::call_once(index_made_, [&] {
      for (const dcp::TensorRecord& tensor : metadata_.tensors)
        index_.paths.emplace(dcp::FlatName(tensor.path), &tensor.path);
      for (const dcp::ObjectRecord& object : metadata_.objects) {
        index_.paths.emplace(dcp::FlatName(object.path), &object.path);
        index_.objects.emplace(object.name, &object);
      }
    });
    return index_;
  }

  dcp::Metadata metadata_;  // what is left of it: the catalog has taken tensors and chunks

  mutable std::once_flag index_made_;
  mutable NameIndex index_;

  mutable std::mutex mutex_;  // guards what is found out on the way
  mutable std::vector<std::unique_ptr<ByteSource>> decoded_;
  mutable std::map<std::pair<uint32_t, uint64_t>, std::map<std::string, safetensors::TensorInfo>>
      headers_;
};

}  // namespace

Result<std::vector<std::string>> FindDcpMetadata(const fs::path& directory) {
  RESHARD_ASSIGN(const PathKind metadata, KindAt(directory / ".metadata"));
  if (metadata == PathKind::kFile) return std::vector<std::string>{".metadata"};
  RESHARD_ASSIGN(std::vector<std::string> names, ListDirectory(directory));
  std::erase_if(names, [](const std::string& name) {
    return !name.starts_with("__") || !name.ends_with(".metadata");
  });
  return names;
}

Result<std::unique_ptr<Source>> OpenDcpSource(const fs::path& directory) {
  RESHARD_ASSIGN(const fs::path whole, AbsolutePath(directory));
  RESHARD_ASSIGN(const std::vector<std::string> metadata, FindDcpMetadata(whole));
  if (metadata.empty()) {
    RESHARD_ASSIGN(const PathKind half, KindAt(whole / ".metadata.tmp"));
    const bool unfinished = half != PathKind::kNothing;
    return std::unexpected(Error{
        .kind = ErrorKind::kSource,
        .file = directory.string(),
        .found = unfinished
                     ? "there is a .metadata.tmp but no .metadata: the save was never finished"
                     : "this directory has no .metadata",
        .expected = "a complete DCP checkpoint",
        .help = unfinished
                    ? "take an earlier checkpoint: without its metadata this one cannot be read"
                    : "check the path, or let --from auto tell what is there"});
  }
  auto source = std::make_unique<DcpSource>(
      whole, metadata.size() == 1 && metadata[0] == ".metadata"
                 ? "a .metadata file"
                 : fmt::format("{} rank-local metadata files", metadata.size()));
  RESHARD_TRY(source->Open(metadata));
  return source;
}

}  // namespace reshard
