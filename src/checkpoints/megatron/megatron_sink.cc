#include "checkpoints/megatron/megatron_sink.h"

#include <fmt/format.h>

#include "formats/torch_save/dict.h"
#include "formats/torch_save/state_dict_writer.h"

namespace reshard::megatron {
namespace {

constexpr std::string_view kFileStem = "model_optim_rng";

// Since version 2 the rows of query, key and value of a head, or group of heads, lie together.
constexpr double kCheckpointVersion = 3.0;

}  // namespace

Result<FileLayout> LayoutRankFile(std::span<const ChunkDecl> chunks) {
  torch_save::Dict dict;
  for (const ChunkDecl& chunk : chunks) {
    const auto index = static_cast<uint32_t>(dict.items.size());
    const std::string key = FormatChunk(index, static_cast<uint32_t>(chunks.size()));
    if (chunk.key != key)
      return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                   .found = fmt::format("chunk {} of {} of a rank's model is '{}'",
                                                        index, chunks.size(), chunk.key),
                                   .expected = fmt::format("'{}'", key)});
    dict.items.push_back({key, torch_save::DictOf(chunk.tensors)});
  }
  if (chunks.empty())
    return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                 .found = "a rank's file without any model",
                                 .expected = "one chunk or more"});
  dict.items.push_back({"checkpoint_version", kCheckpointVersion});
  return torch_save::EncodeDict(dict, kFileStem);
}

std::string TrackerText(std::optional<uint64_t> iteration) {
  return iteration ? fmt::format("{}", *iteration) : "release";
}

std::string IterationName(std::optional<uint64_t> iteration) {
  return iteration ? fmt::format("iter_{:07}", *iteration) : "release";
}

std::string RankFilePath(const Rank& rank, const RankSizes& sizes) {
  return fmt::format("{}/{}.pt", FormatRankName(rank, sizes), kFileStem);
}

}  // namespace reshard::megatron
