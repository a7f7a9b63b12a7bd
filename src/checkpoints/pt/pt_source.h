#ifndef RESHARD_CHECKPOINTS_PT_PT_SOURCE_H_
#define RESHARD_CHECKPOINTS_PT_PT_SOURCE_H_

#include <filesystem>
#include <memory>

#include "reshard/source.h"

namespace reshard {

/// Opens one torch.save file, zip or legacy. Nested dictionaries are flattened as DCP flattens them.
Result<std::unique_ptr<Source>> OpenPtSource(const std::filesystem::path& file);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_PT_PT_SOURCE_H_
