#ifndef RESHARD_CHECKPOINTS_DCP_DCP_SOURCE_H_
#define RESHARD_CHECKPOINTS_DCP_DCP_SOURCE_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "reshard/source.h"

namespace reshard {

/// The metadata files of a DCP directory: `.metadata`, or the `__R.metadata` of each rank; empty
/// where there are none. Errors are of kind kSource: a directory that cannot be listed.
Result<std::vector<std::string>> FindDcpMetadata(const std::filesystem::path& directory);

/// Opens a PyTorch Distributed Checkpoint. Only metadata is read; a chunk's own header is read when
/// the chunk is located. See format.md beside this file.
Result<std::unique_ptr<Source>> OpenDcpSource(const std::filesystem::path& directory);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_DCP_DCP_SOURCE_H_
