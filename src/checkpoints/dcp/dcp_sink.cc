#include "checkpoints/dcp/dcp_sink.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <iterator>
#include <limits>
#include <utility>

#include "base/checked_math.h"
#include "base/try.h"
#include "formats/dcp/metadata_writer.h"
#include "formats/dcp/state_dict_paths.h"

namespace reshard {
namespace {

constexpr uint64_t kMaxFile = uint64_t{1} << 62;
constexpr size_t kMaxText = size_t{1} << 20;
constexpr size_t kMaxBoxes = std::numeric_limits<uint32_t>::max();  // see Chunk::box

Result<> CheckRequest(std::span<const TensorDecl> tensors, const DcpRequest& request) {
  if (request.ranks == 0 || request.ranks > kMaxDcpRanks)
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .found = fmt::format("{} ranks", request.ranks),
                                 .expected = fmt::format("1 to {}", kMaxDcpRanks)});
  assert(request.paths.empty() || request.paths.size() == tensors.size());
  const dcp::Path none;
  std::vector<dcp::NamedPath> values;
  values.reserve(tensors.size() + request.objects.size());
  for (size_t i = 0; i < tensors.size(); ++i)
    values.push_back({tensors[i].name, request.paths.empty() ? &none : &request.paths[i]});
  for (const DcpObject& object : request.objects) {
    const auto* text = std::get_if<std::string>(&object.value);
    if (text != nullptr && text->size() >= kMaxText)
      return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                   .tensor = object.name,
                                   .found = fmt::format("a text of {} bytes", text->size()),
                                   .expected = fmt::format("fewer than {} bytes", kMaxText)});
    values.push_back({object.name, &object.path});
  }
  return dcp::CheckPaths(values);
}

// Appends the entry's bytes to the file, whose entries stand end to end.
void AppendEntry(FileLayout entry, FileLayout* file) {
  const uint64_t base = file->size;
  for (Literal& literal : entry.literals)
    file->literals.push_back({base + literal.offset, std::move(literal.bytes)});
  for (const uint64_t slot : entry.slots) file->slots.push_back(base + slot);
  for (LateCrc& late : entry.late_crcs) {
    late.begin += base;
    late.end += base;
    for (uint64_t& target : late.targets) target += base;
    file->late_crcs.push_back(std::move(late));
  }
  file->size += entry.size;
}

class Layouter {
 public:
  explicit Layouter(const DcpRequest& request) : request_(request) {
    out_.files.resize(request.ranks);
    for (unsigned rank = 0; rank < request.ranks; ++rank) {
      out_.files[rank].path = fmt::format("__{}_0.distcp", rank);
      metadata_.files.push_back(out_.files[rank].path);
    }
  }

  // In torch's files the objects come first.
  void AddObjects() {
    for (const DcpObject& object : request_.objects) {
      FileLayout entry = object.stored
                             ? FileLayout{.size = object.stored->size(),
                                          .literals = {{0, *object.stored}}}
                             : torch_save::EncodeValue(object.value);
      FileLayout& file = out_.files.front().layout;
      metadata_.objects.push_back({.name = object.name,
                                   .file = 0,
                                   .offset = file.size,
                                   .length = entry.size,
                                   .path = object.path});
      AppendEntry(std::move(entry), &file);
    }
  }

  Result<> AddTensor(const TensorDecl& tensor, size_t index) {
    metadata_.tensors.push_back(
        {.name = tensor.name,
         .dtype = tensor.dtype,
         .shape = tensor.shape,
         .first_chunk = static_cast<uint32_t>(metadata_.chunks.size()),
         .path = request_.paths.empty() ? dcp::Path() : request_.paths[index]});
    RESHARD_ASSIGN(const FileLayout whole, torch_save::EncodeTensor(tensor));
    const int64_t rows = tensor.shape.empty() ? 1 : tensor.shape.front();
    if (tensor.shape.empty() || *CheckedNumel(tensor.shape) == 0)
      return AddChunk(tensor, {.tensor = index, .start = 0, .count = rows}, whole, 0);

    const int64_t part = rows / request_.ranks + (rows % request_.ranks != 0);
    TensorDecl chunk = tensor;
    FileLayout entry;
    unsigned rank = 0;
    for (int64_t start = 0; start < rows; start += chunk.shape.front(), ++rank) {
      const int64_t count = std::min(part, rows - start);
      // The ranks' entries are alike, but for the last.
      if (start == 0 || count != chunk.shape.front()) {
        chunk.shape.front() = count;
        RESHARD_ASSIGN(entry, torch_save::EncodeTensor(chunk));
      }
      RESHARD_TRY(AddChunk(tensor, {.tensor = index, .start = start, .count = count}, entry, rank));
    }
    return {};
  }

  DcpOutput Finish() && {
    out_.metadata = dcp::EncodeMetadata(metadata_);
    return std::move(out_);
  }

 private:
  Result<> AddChunk(const TensorDecl& tensor, const DcpSlot& slot, const FileLayout& entry,
                    unsigned rank) {
    DcpFile& file = out_.files[rank];
    const auto end = CheckedAdd(file.layout.size, entry.size);
    if (!end || *end >= kMaxFile)
      return TooMuch(tensor, fmt::format("with it {} has 2^62 bytes or more", file.path),
                     "fewer in each file");
    const size_t box = metadata_.boxes.size();
    if (box + 2 * tensor.shape.size() > kMaxBoxes)
      return TooMuch(tensor, "the tensors before it have too many chunks",
                     "fewer than 2^32 coordinates of chunks in all");
    metadata_.boxes.resize(box + tensor.shape.size(), 0);
    std::ranges::copy(tensor.shape, std::back_inserter(metadata_.boxes));
    if (!tensor.shape.empty()) {
      metadata_.boxes[box] = slot.start;
      metadata_.boxes[box + tensor.shape.size()] = slot.count;
    }
    metadata_.chunks.push_back({.offset = file.layout.size,
                                .length = entry.size,
                                .file = rank,
                                .box = static_cast<uint32_t>(box)});
    ++metadata_.tensors.back().chunk_count;
    file.slots.push_back(slot);
    AppendEntry(entry, &file.layout);
    return {};
  }

  static std::unexpected<Error> TooMuch(const TensorDecl& tensor, std::string found,
                                        std::string expected) {
    return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                 .tensor = tensor.name,
                                 .found = std::move(found),
                                 .expected = std::move(expected),
                                 .help = "take another number of ranks"});
  }

  const DcpRequest& request_;
  DcpOutput out_;
  dcp::Metadata metadata_;
};

}  // namespace

Result<DcpOutput> LayoutDcp(std::span<const TensorDecl> tensors, const DcpRequest& request) {
  RESHARD_TRY(CheckRequest(tensors, request));
  Layouter layouter(request);
  layouter.AddObjects();
  for (size_t i = 0; i < tensors.size(); ++i) RESHARD_TRY(layouter.AddTensor(tensors[i], i));
  return std::move(layouter).Finish();
}

}  // namespace reshard
