#ifndef RESHARD_CHECKPOINTS_MEGATRON_MEGATRON_SINK_H_
#define RESHARD_CHECKPOINTS_MEGATRON_MEGATRON_SINK_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/file_layout.h"
#include "checkpoints/megatron/rank_name.h"
#include "reshard/error.h"

namespace reshard::megatron {

/// The part of a model that one rank has in one virtual pipeline stage. Tensors are referred to.
struct ChunkDecl {
  std::string key;  ///< `model`, or `model0`, `model1`, ...
  std::span<const TensorDecl> tensors;
};

/// Lays out the file of one rank, which torch.load(weights_only=True) reads:
/// `{'model': {name: tensor, ...}, 'checkpoint_version': 3.0}`, or with several chunks
/// `{'model0': {...}, 'model1': {...}, ..., 'checkpoint_version': 3.0}`. The slots are those of the
/// tensors of the first chunk, then of the second, and so on. Byte for byte as torch.save writes
/// it, within the limits of torch_save::EncodeDict.
///
/// Errors are of kind kMapping: keys that Megatron would not read (one chunk is `model`, several
/// are numbered from 0 in order), and those of EncodeDict.
Result<FileLayout> LayoutRankFile(std::span<const ChunkDecl> chunks);

/// The file in the root that names the last iteration.
inline constexpr std::string_view kTrackerName = "latest_checkpointed_iteration.txt";

/// What the tracker holds: the number, or "release" for weights without a training run. Without a
/// newline, which some readers take for a part of it.
std::string TrackerText(std::optional<uint64_t> iteration);

/// The directory of an iteration within the root: `iter_0001000`, or `release`.
std::string IterationName(std::optional<uint64_t> iteration);

/// The file of a rank within the directory of the iteration: `mp_rank_01_002/model_optim_rng.pt`.
std::string RankFilePath(const Rank& rank, const RankSizes& sizes);

}  // namespace reshard::megatron

#endif  // RESHARD_CHECKPOINTS_MEGATRON_MEGATRON_SINK_H_
