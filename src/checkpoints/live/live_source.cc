#include "checkpoints/live/live_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/checked_math.h"
#include "base/try.h"
#include "view/catalog_builder.h"
#include "view/region.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

std::unexpected<Error> Misuse(const std::string& tensor, std::string found, std::string expected) {
  return std::unexpected(Error{.kind = ErrorKind::kUsage,
                               .tensor = tensor,
                               .found = std::move(found),
                               .expected = std::move(expected)});
}

std::optional<uint64_t> ByteSize(const Shape& extent, DType dtype) {
  const auto numel = CheckedNumel(extent);
  const auto size = numel ? CheckedMul(*numel, ItemSize(dtype)) : std::nullopt;
  return size ? std::optional(static_cast<uint64_t>(*size)) : std::nullopt;
}

}  // namespace

Result<std::unique_ptr<LiveSource>> LiveSource::Make(const std::vector<LiveTensor>& tensors) {
  std::vector<uint64_t> used;  // bytes of each process
  CatalogBuilder builder;
  for (const LiveTensor& tensor : tensors) {
    builder.AddTensor(tensor.name, tensor.dtype, tensor.shape);
    for (const LiveShard& shard : tensor.shards) {
      const auto size = ByteSize(shard.extent, tensor.dtype);
      if (!size || shard.start.size() != tensor.shape.size() ||
          shard.extent.size() != tensor.shape.size())
        return Misuse(tensor.name, fmt::format("a shard of the shape {}", ShapeText(shard.extent)),
                      fmt::format("a box of a tensor of the shape {}", ShapeText(tensor.shape)));
      if (used.size() <= shard.rank) used.resize(size_t{shard.rank} + 1);
      builder.AddChunk(shard.start, shard.extent, shard.rank, used[shard.rank], *size);
      used[shard.rank] += *size;
    }
  }
  for (size_t rank = 0; rank < used.size(); ++rank)
    builder.AddFile({.path = fmt::format("rank {}", rank), .size = used[rank]});
  auto source = std::make_unique<LiveSource>();
  RESHARD_ASSIGN(source->catalog_, std::move(builder).Build(source->root_));
  auto number = static_cast<uint32_t>(used.size());
  for (const Tensor& tensor : source->catalog_.tensors())
    for (const Chunk& chunk : source->catalog_.chunks(tensor))
      source->lent_at_[{chunk.file, chunk.offset}] = number++;
  return source;
}

Result<std::vector<uint32_t>> LiveSource::Lend(const std::vector<LiveBytes>& shards) {
  std::vector<uint32_t> positions;
  for (const LiveBytes& shard : shards) {
    const Tensor* tensor = catalog_.Find(shard.tensor);
    if (!tensor) return Misuse(shard.tensor, "there is no such tensor", "one of those declared");
    const auto chunks = catalog_.chunks(*tensor);
    const auto chunk = std::ranges::partition_point(chunks, [&](const Chunk& candidate) {
      return std::ranges::lexicographical_compare(catalog_.Box(*tensor, candidate).start,
                                                  shard.start);
    });
    if (chunk == chunks.end() ||
        !std::ranges::equal(catalog_.Box(*tensor, *chunk).start, shard.start) ||
        shard.strides.size() != tensor->shape.size())
      return Misuse(shard.tensor, fmt::format("memory for a shard at {}", ShapeText(shard.start)),
                    "a shard that was declared, with a stride for each dimension");
    const BoxView box = catalog_.Box(*tensor, *chunk);
    int64_t last = 0;
    for (size_t dim = 0; dim < box.extent.size(); ++dim)
      last += (box.extent[dim] - 1) * shard.strides[dim];
    lent_[lent_at_.at({chunk->file, chunk->offset})] = {
        shard.data, static_cast<uint64_t>((last + 1) * ItemSize(tensor->dtype)), shard.strides};
    positions.push_back(tensor->first_chunk + static_cast<uint32_t>(chunk - chunks.begin()));
  }
  return positions;
}

Result<ChunkLayout> LiveSource::Locate(const Tensor& tensor, const Chunk& chunk) const {
  const uint32_t number = lent_at_.at({chunk.file, chunk.offset});
  const auto lent = lent_.find(number);
  if (lent != lent_.end()) return ChunkLayout{.file = number, .strides = lent->second.strides};
  return ChunkLayout{.file = number, .strides = RowMajorStrides(catalog_.Box(tensor, chunk).extent)};
}

Result<> LiveSource::ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const {
  const auto lent = lent_.find(file);
  if (lent == lent_.end() || !InRange(offset, out.size(), lent->second.size))
    return Misuse("", "bytes are asked for that are not in this process's memory",
                  "only shards whose memory was given");
  std::memcpy(out.data(), lent->second.data + offset, out.size());
  return {};
}

Result<std::unique_ptr<Source>> MakeLiveSource(const std::vector<LiveTensor>& tensors,
                                               const std::vector<LiveBytes>& bytes) {
  RESHARD_ASSIGN(auto source, LiveSource::Make(tensors));
  RESHARD_TRY(source->Lend(bytes));
  return source;
}

}  // namespace reshard
