#include "checkpoints/hf/hf_source.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <simdjson.h>

#include "base/checked_math.h"
#include "base/json_memory.h"
#include "base/try.h"
#include "checkpoints/file_source.h"
#include "checkpoints/hf/hf_index.h"
#include "checkpoints/torch_save_tensors.h"
#include "formats/safetensors/safetensors.h"
#include "io/directory.h"
#include "view/lower.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// A piece of a tensor in one of DCP's safetensors shards.
struct Piece {
  Shape start;
  Shape extent;
  uint32_t file;
  uint64_t begin;
  uint64_t length;
};

// A tensor in a file other than the one that the index names for it.
struct Misplaced {
  std::string file;
  uint32_t index;
  safetensors::TensorInfo tensor;
};

struct Pieces {
  DType dtype;
  std::vector<Piece> pieces;
};

// What the files of one model say in their `__metadata__`, together. What two of them say differently
// is true of neither file that will be written, and left out.
class MetadataUnion {
 public:
  // The free text that a file's loader goes by is of a few hundred bytes a tensor at most; every file
  // that is written repeats it.
  static constexpr uint64_t kMaxBytes = uint64_t{16} << 20;

  void Add(const safetensors::Metadata& metadata) {
    for (const auto& [key, value] : metadata) {
      // DCP's words are of its shards, not of the tensors.
      if (key == "format" || key.starts_with("DCP_")) continue;
      const auto [at, added] = values_.try_emplace(key, value);
      if (added) bytes_ += key.size() + value.size();
      if (at->second != value) contradicted_.insert(key);
    }
  }

  bool too_long() const { return bytes_ > kMaxBytes; }
  const std::set<std::string>& contradicted() const { return contradicted_; }

  safetensors::Metadata Take() && {
    for (const std::string& key : contradicted_) values_.erase(key);
    return std::move(values_);
  }

 private:
  safetensors::Metadata values_;
  std::set<std::string> contradicted_;
  uint64_t bytes_ = 0;
};

class HfSource final : public FileSource {
 public:
  HfSource(const fs::path& directory, std::string evidence)
      : FileSource("hf", std::move(evidence), directory) {}

  Result<> Open(const HfFiles& files) {
    CatalogBuilder builder;
    std::map<std::string, Pieces> sharded;
    std::map<std::string, std::string> file_of;
    MetadataUnion metadata;
    std::map<std::string, std::string> named;  // the file of each tensor, as the index says
    if (!files.index.empty()) {
      RESHARD_ASSIGN(named, ReadWeightMap(fs::path(root()) / files.index));
    }
    std::vector<Misplaced> misplaced;
    for (const std::string& name : files.names) {
      RESHARD_ASSIGN(const uint32_t index, AddFile(name, &builder));
      RESHARD_ASSIGN(const auto file, files_.Open(index));
      if (files.layout == HfFiles::Layout::kBin) {
        RESHARD_ASSIGN(const torch_save::Archive archive, torch_save::DecodeFile(*file));
        torch_tensors_.Add(archive, index, &builder);
        for (const auto& leaf : archive.tensors) file_of[leaf.name] = name;
        for (const auto& leaf : archive.unreadable) file_of[leaf.name] = name;
        continue;
      }
      RESHARD_ASSIGN(const safetensors::Header header, safetensors::DecodeHeader(*file));
      metadata.Add(header.metadata);
      if (metadata.too_long()) return MetadataTooLong(file->name());
      if (files.layout == HfFiles::Layout::kDcpShards) {
        RESHARD_TRY(CollectPieces(header, index, file->name(), &sharded));
        continue;
      }
      for (const safetensors::TensorInfo& tensor : header.tensors) {
        const auto at = named.find(tensor.name);
        if (at != named.end() && at->second != name) {
          misplaced.push_back({name, index, tensor});
          continue;
        }
        builder.AddTensor(tensor.name, tensor.dtype, tensor.shape);
        builder.AddWhole(index, tensor.begin, tensor.length);
        file_of[tensor.name] = name;
      }
    }
    Settle(misplaced, files.index, named, &file_of, &builder);
    AddSharded(sharded, &builder);
    for (const std::string& key : metadata.contradicted())
      notes_.push_back(fmt::format(
          "the files' metadata say different things of '{}': the target's says nothing of it", key));
    metadata_ = std::move(metadata).Take();
    if (!files.index.empty()) RESHARD_TRY(CompareWithIndex(files.index, named, file_of));
    RESHARD_ASSIGN(catalog_, std::move(builder).Build(root()));
    return {};
  }

  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const override {
    if (const ChunkLayout* layout = torch_tensors_.Find(tensor.name)) return *layout;
    return ChunkLayout{.file = chunk.file,
                       .offset = chunk.offset,
                       .strides = RowMajorStrides(catalog_.Box(tensor, chunk).extent)};
  }

  std::map<std::string, std::string> metadata() const override { return metadata_; }

 private:
  static std::unexpected<Error> MetadataTooLong(const std::string& file) {
    return std::unexpected(
        Error{.kind = ErrorKind::kSource,
              .file = file,
              .found = fmt::format("with this file's, the files' __metadata__ have more than {} MiB",
                                   MetadataUnion::kMaxBytes >> 20),
              .expected = "some text about the tensors",
              .help = "save the model again without it"});
  }

  // The index decides: where a later file was laid over some tensors of an older one, the older one
  // still has its copies, and a loader passes them over. A tensor that stands in another file alone is
  // taken from there.
  void Settle(const std::vector<Misplaced>& misplaced, const std::string& index,
              const std::map<std::string, std::string>& named,
              std::map<std::string, std::string>* file_of, CatalogBuilder* builder) {
    for (const auto& [file, number, tensor] : misplaced) {
      const auto at = file_of->try_emplace(tensor.name, file).first;
      if (at->second == named.at(tensor.name)) {
        notes_.push_back(fmt::format("{} holds '{}' too; that of {} is taken, as {} says", file,
                                     tensor.name, at->second, index));
        continue;
      }
      builder->AddTensor(tensor.name, tensor.dtype, tensor.shape);
      builder->AddWhole(number, tensor.begin, tensor.length);
    }
  }

  // Every tensor that the index names must be there, or a model would start with random weights.
  Result<> CompareWithIndex(const std::string& index, const std::map<std::string, std::string>& map,
                            const std::map<std::string, std::string>& file_of) {
    for (const auto& [tensor, file] : map) {
      const auto at = file_of.find(tensor);
      if (at == file_of.end())
        return std::unexpected(
            Error{.kind = ErrorKind::kSource,
                  .file = (fs::path(root()) / file).string(),
                  .tensor = tensor,
                  .found = "the file does not hold this tensor",
                  .expected = fmt::format("to find it there, as {} says", index),
                  .help = "the checkpoint is incomplete: copy it again, with every file"});
      if (at->second != file)
        notes_.push_back(fmt::format("{} says that '{}' is in {}, but it is in {}", index, tensor,
                                     file, at->second));
    }
    for (const auto& [tensor, file] : file_of)
      if (!map.contains(tensor))
        notes_.push_back(fmt::format("{} holds '{}', which {} does not name", file, tensor, index));
    return {};
  }

  // `DCP_SHARDING_INFO` says where each tensor of a shard lies in the whole (torch 2.8,
  // torch/distributed/checkpoint/hf_storage.py). The whole's shape stands nowhere.
  Result<> CollectPieces(const safetensors::Header& header, uint32_t index, const std::string& path,
                         std::map<std::string, Pieces>* sharded) const {
    const auto fault = [&](const std::string& tensor, std::string found) {
      return std::unexpected(Error{.kind = ErrorKind::kSource,
                                   .file = path,
                                   .tensor = tensor,
                                   .found = std::move(found),
                                   .expected = "DCP_SHARDING_INFO with the offsets of each tensor",
                                   .help = "the shard is damaged, or was not written by DCP"});
    };
    const auto info = header.metadata.find("DCP_SHARDING_INFO");
    if (info == header.metadata.end()) return fault({}, "the header has no DCP_SHARDING_INFO");
    simdjson::dom::parser parser;
    simdjson::dom::element document;
    simdjson::dom::object places;
    if (JsonFault(parser.parse(info->second).get(document)) || document.get(places))
      return fault({}, "DCP_SHARDING_INFO is no JSON object");
    // Looked up by name, where simdjson would go through all of them for each tensor.
    std::map<std::string_view, simdjson::dom::element> by_name;
    for (const auto& [name, place] : places) by_name.emplace(name, place);
    for (const safetensors::TensorInfo& tensor : header.tensors) {
      simdjson::dom::array offsets;
      const auto place = by_name.find(tensor.name);
      if (place == by_name.end() || place->second.at_key("saved_offsets").get(offsets))
        return fault(tensor.name, "the tensor has no saved_offsets");
      Piece piece{{}, tensor.shape, index, tensor.begin, tensor.length};
      for (const simdjson::dom::element& value : offsets) {
        int64_t offset;
        if (value.get(offset) || offset < 0) return fault(tensor.name, "an offset is no number");
        piece.start.push_back(offset);
      }
      if (piece.start.size() != tensor.shape.size())
        return fault(tensor.name, "there are not as many offsets as dimensions");
      for (size_t dim = 0; dim < tensor.shape.size(); ++dim)
        if (!CheckedAdd(piece.start[dim], tensor.shape[dim]))
          return fault(tensor.name, "an offset is too large");
      Pieces& all = sharded->try_emplace(tensor.name, Pieces{tensor.dtype, {}}).first->second;
      if (all.dtype != tensor.dtype ||
          (!all.pieces.empty() && all.pieces[0].start.size() != piece.start.size()))
        return fault(tensor.name, "its type or rank differs from that in another shard");
      // Replicas are written by every rank that has one.
      const bool known = std::ranges::any_of(all.pieces, [&](const Piece& other) {
        return other.start == piece.start && other.extent == piece.extent;
      });
      if (!known) all.pieces.push_back(std::move(piece));
    }
    return {};
  }

  static void AddSharded(const std::map<std::string, Pieces>& sharded, CatalogBuilder* builder) {
    for (const auto& [name, all] : sharded) {
      Shape shape(all.pieces[0].start.size(), 0);
      for (const Piece& piece : all.pieces)
        for (size_t dim = 0; dim < shape.size(); ++dim)
          shape[dim] = std::max(shape[dim], piece.start[dim] + piece.extent[dim]);
      builder->AddTensor(name, all.dtype, std::move(shape));
      for (const Piece& piece : all.pieces)
        builder->AddChunk(piece.start, piece.extent, piece.file, piece.begin, piece.length);
    }
  }

  TorchSaveTensors torch_tensors_;
  safetensors::Metadata metadata_;
};

}  // namespace

Result<std::unique_ptr<Source>> OpenHfSource(const fs::path& path) {
  RESHARD_ASSIGN(const fs::path whole, AbsolutePath(path));
  HfFiles files;
  fs::path directory = whole;
  RESHARD_ASSIGN(const PathKind kind, KindAt(whole));
  if (kind == PathKind::kFile) {
    directory = whole.parent_path();
    files.names = {whole.filename().string()};
    files.evidence = "a .safetensors file";
  } else {
    RESHARD_ASSIGN(files, FindHfFiles(whole));
    if (files.names.empty())
      return std::unexpected(Error{
          .kind = ErrorKind::kSource,
          .file = path.string(),
          .found = "this directory has no weights of a Hugging Face model",
          .expected = "model.safetensors, its index, or pytorch_model.bin",
          .help = "check the path"});
    RESHARD_TRY(CheckFilesOfIndex(whole, files));
  }
  auto source = std::make_unique<HfSource>(directory, files.evidence);
  RESHARD_TRY(source->Open(files));
  return source;
}

}  // namespace reshard
