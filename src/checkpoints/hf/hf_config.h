#ifndef RESHARD_CHECKPOINTS_HF_HF_CONFIG_H_
#define RESHARD_CHECKPOINTS_HF_HF_CONFIG_H_

#include <filesystem>

#include "recipe/model_config.h"
#include "reshard/error.h"

namespace reshard {

/// The config.json of a directory; a config without values where there is none.
Result<ModelConfig> ReadModelConfig(const std::filesystem::path& directory);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_HF_HF_CONFIG_H_
