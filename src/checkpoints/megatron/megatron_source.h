#ifndef RESHARD_CHECKPOINTS_MEGATRON_MEGATRON_SOURCE_H_
#define RESHARD_CHECKPOINTS_MEGATRON_MEGATRON_SOURCE_H_

#include <filesystem>
#include <memory>

#include "reshard/source.h"

namespace reshard {

/// True where the directory holds one whose name begins like that of a Megatron rank, `mp_rank_`.
/// Errors are of kind kSource: a directory that cannot be listed.
Result<bool> HoldsMegatronRanks(const std::filesystem::path& directory);

/// Opens the directory of one iteration of a Megatron checkpoint (`release`, `iter_0001000`) with
/// the files of all its ranks; see format.md beside this file. The catalog has each rank's own
/// tensors of the model, named `mp_rank_TT.../<chunk>/<key>` (megatron/rank_name.h); all else that
/// the files hold, the optimizer's tensors too, are objects.
///
/// The source's hints are the integers of `args`, `iteration` and `checkpoint_version`, where all
/// files agree on them, and, from the directories and files themselves,
/// tensor_model_parallel_size and virtual_pipeline_model_parallel_size (the number of chunks in
/// each file) always, pipeline_model_parallel_size and expert_model_parallel_size where it is known
/// which of the two a lone suffix counts: with one suffix and neither hint, the user must say.
Result<std::unique_ptr<Source>> OpenMegatronSource(const std::filesystem::path& directory);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_MEGATRON_MEGATRON_SOURCE_H_
