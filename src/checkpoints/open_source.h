#ifndef RESHARD_CHECKPOINTS_OPEN_SOURCE_H_
#define RESHARD_CHECKPOINTS_OPEN_SOURCE_H_

#include <memory>
#include <string>

#include "reshard/source.h"

namespace reshard {

/// Opens a checkpoint of kind `from`: "dcp", "hf", "pt", or "auto" to tell it from the files that
/// are there. A directory with a latest_checkpointed_iteration.txt stands for the iteration that
/// this file names. Errors say what was looked for and what lies nearby.
Result<std::unique_ptr<Source>> OpenSource(const std::string& path, const std::string& from);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_OPEN_SOURCE_H_
