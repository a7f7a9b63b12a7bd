#ifndef RESHARD_CHECKPOINTS_MEGATRON_RANK_FILE_H_
#define RESHARD_CHECKPOINTS_MEGATRON_RANK_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_source.h"
#include "checkpoints/megatron/rank_grid.h"
#include "formats/torch_save/archive.h"
#include "reshard/error.h"

namespace reshard::megatron {

/// What one rank has saved: the dictionary that Megatron-LM's generate_state_dict() makes.
struct RankFile {
  torch_save::Archive archive;  ///< the whole dictionary, flattened
  uint32_t chunks = 0;          ///< 1 for the key `model`, N for `model0` ... `model<N-1>`
  Hints hints;  ///< integers and truth values (0, 1) in `args`, an argparse.Namespace; of a short text
                ///< `name.text`, which is 1; then those beside it: `iteration`, and
                ///< `checkpoint_version` if it is whole
};

/// Decodes a rank's file. No code in it is run: the objects of unknown classes that `args` and the
/// optimizer hold stay opaque.
///
/// Errors are of kind kSource: those of torch_save::DecodeFile; something other than a dictionary;
/// no `model`; both `model` and numbered chunks, or a number left out; a chunk that is no
/// dictionary.
Result<RankFile> DecodeRankFile(const ByteSource& file);

/// The key that a leaf of the archive has in its chunk: `name`, which is the parts of `path` joined
/// by
/// '.', without the first part. Nothing where the leaf is not of the model.
std::optional<std::string_view> KeyInModel(const torch_save::Path& path, std::string_view name);

}  // namespace reshard::megatron

#endif  // RESHARD_CHECKPOINTS_MEGATRON_RANK_FILE_H_
