#ifndef RESHARD_CHECKPOINTS_MEGATRON_TORCH_DIST_H_
#define RESHARD_CHECKPOINTS_MEGATRON_TORCH_DIST_H_

#include <filesystem>

#include "reshard/error.h"

namespace reshard::megatron {

/// An error (kMapping) where the directory is a distributed checkpoint of Megatron: a DCP directory
/// whose metadata.json names the `sharded_backend`. Its names look like a flavor's, but layers
/// and experts are stacked, which no recipe undoes.
Result<> CheckIsNoTorchDist(const std::filesystem::path& directory);

}  // namespace reshard::megatron

#endif  // RESHARD_CHECKPOINTS_MEGATRON_TORCH_DIST_H_
