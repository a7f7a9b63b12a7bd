#ifndef RESHARD_CHECKPOINTS_NEARBY_H_
#define RESHARD_CHECKPOINTS_NEARBY_H_

#include <filesystem>
#include <string>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// Whether a directory looks like a checkpoint of any kind, by its files.
Result<bool> HoldsCheckpoint(const std::filesystem::path& directory);

/// Directories below this one that look like checkpoints, a few of them, to name in an error. An
/// optimizer's are among them only where there are no others.
std::vector<std::string> CheckpointsBelow(const std::filesystem::path& directory);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_NEARBY_H_
