#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "base/try.h"
#include "formats/dcp/dcp_metadata.h"
#include "formats/dcp/name_table.h"

namespace reshard::dcp {
namespace {

Error Disagree(std::string_view name, std::string found, std::string expected) {
  return Error{
      .kind = ErrorKind::kSource,
      .tensor = std::string(name),
      .found = std::move(found),
      .expected = std::move(expected),
      .help = "the metadata files of the ranks are not of one save: take another checkpoint"};
}

class Merger {
 public:
  explicit Merger(std::vector<Metadata> parts) : parts_(std::move(parts)) {}

  Result<Metadata> Run() {
    for (Metadata& part : parts_) RESHARD_TRY(AddRecords(&part));
    for (size_t i = 0; i < out_.tensors.size(); ++i) RESHARD_TRY(AddChunks(i));
    out_.files.assign(files_.texts().begin(), files_.texts().end());
    std::ranges::sort(out_.transformed_entries, {}, Position);
    const auto rest = std::ranges::unique(out_.transformed_entries, {}, Position);
    out_.transformed_entries.erase(rest.begin(), rest.end());
    return std::move(out_);
  }

 private:
  // A chunk of a part, with the file's number in the whole.
  struct Piece {
    BoxView box;
    Chunk chunk;
  };

  static std::pair<uint32_t, uint64_t> Position(const TransformedEntry& entry) {
    return {entry.file, entry.offset};
  }

  Result<> AddRecords(Metadata* part) {
    std::vector<uint32_t> file_numbers;
    for (const std::string& file : part->files) file_numbers.push_back(files_.Number(file));
    AddTransforms(*part, file_numbers);
    for (std::string& note : part->notes) out_.notes.push_back(std::move(note));
    for (TensorRecord& tensor : part->tensors) {
      RESHARD_ASSIGN(const size_t index, Merge(&tensor));
      for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
        Chunk chunk = part->chunks[tensor.first_chunk + i];
        const BoxView box = part->Box(out_.tensors[index], chunk);
        chunk.file = file_numbers[chunk.file];
        pieces_[index].push_back({box, chunk});
      }
    }
    for (ObjectRecord& object : part->objects) {
      const auto [known, added] = records_.try_emplace(object.name, kObject, out_.objects.size());
      if (known->second.first != kObject)
        return std::unexpected(
            Disagree(object.name, "a tensor on one rank, an object on another", "one of the two"));
      if (!added) continue;
      object.file = file_numbers[object.file];
      out_.objects.push_back(std::move(object));
    }
    return {};
  }

  // The index of the tensor in the whole. Moves the record there where it is the first, but for
  // what tells its chunks.
  Result<size_t> Merge(TensorRecord* tensor) {
    const auto [known, added] = records_.try_emplace(tensor->name, kTensor, out_.tensors.size());
    const auto [kind, index] = known->second;
    if (kind != kTensor)
      return std::unexpected(
          Disagree(tensor->name, "an object on one rank, a tensor on another", "one of the two"));
    if (added) {
      out_.tensors.push_back(std::move(*tensor));
      pieces_.emplace_back();
      return index;
    }
    TensorRecord& whole = out_.tensors[index];
    if (whole.dtype != tensor->dtype || whole.shape != tensor->shape)
      return std::unexpected(
          Disagree(tensor->name,
                   fmt::format("{} ({}) on one rank, {} ({}) on another", DTypeName(whole.dtype),
                               fmt::join(whole.shape, ", "), DTypeName(tensor->dtype),
                               fmt::join(tensor->shape, ", ")),
                   "the same on all ranks"));
    whole.requires_grad |= tensor->requires_grad;
    if (whole.path.empty()) whole.path = std::move(tensor->path);
    return index;
  }

  void AddTransforms(const Metadata& part, const std::vector<uint32_t>& file_numbers) {
    for (TransformedEntry entry : part.transformed_entries) {
      const Transforms& list = part.transforms[entry.transforms];
      const auto found = std::ranges::find(out_.transforms, list);
      entry.transforms = static_cast<uint32_t>(found - out_.transforms.begin());
      if (found == out_.transforms.end()) out_.transforms.push_back(list);
      entry.file = file_numbers[entry.file];
      out_.transformed_entries.push_back(entry);
    }
  }

  Result<> AddChunks(size_t index) {
    TensorRecord& tensor = out_.tensors[index];
    std::vector<Piece>& pieces = pieces_[index];
    std::ranges::stable_sort(pieces, [](const Piece& a, const Piece& b) {
      return std::ranges::lexicographical_compare(a.box.start, b.box.start);
    });
    tensor.first_chunk = static_cast<uint32_t>(out_.chunks.size());
    const Piece* last = nullptr;
    for (Piece& piece : pieces) {
      if (last != nullptr && std::ranges::equal(last->box.start, piece.box.start)) {
        if (std::ranges::equal(last->box.extent, piece.box.extent)) continue;
        return std::unexpected(Disagree(
            tensor.name,
            fmt::format("chunks of sizes ({}) and ({}), both at ({})",
                        fmt::join(last->box.extent, ", "), fmt::join(piece.box.extent, ", "),
                        fmt::join(piece.box.start, ", ")),
            "ranks that agree on how the tensor is cut"));
      }
      last = &piece;
      piece.chunk.box = static_cast<uint32_t>(out_.boxes.size());
      out_.boxes.insert(out_.boxes.end(), piece.box.start.begin(), piece.box.start.end());
      out_.boxes.insert(out_.boxes.end(), piece.box.extent.begin(), piece.box.extent.end());
      out_.chunks.push_back(piece.chunk);
    }
    tensor.chunk_count = static_cast<uint32_t>(out_.chunks.size()) - tensor.first_chunk;
    pieces = std::vector<Piece>();
    return {};
  }

  enum RecordKind { kTensor, kObject };

  std::vector<Metadata> parts_;
  Metadata out_;
  NameTable files_;
  std::map<std::string, std::pair<RecordKind, size_t>, std::less<>> records_;
  std::vector<std::vector<Piece>> pieces_;  // by tensor
};

}  // namespace

Result<Metadata> MergeMetadata(std::vector<Metadata> parts) {
  if (parts.size() == 1) return std::move(parts.front());
  return Merger(std::move(parts)).Run();
}

}  // namespace reshard::dcp
