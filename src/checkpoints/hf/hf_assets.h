#ifndef RESHARD_CHECKPOINTS_HF_HF_ASSETS_H_
#define RESHARD_CHECKPOINTS_HF_HF_ASSETS_H_

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/hf/side_files.h"
#include "reshard/dtype.h"
#include "reshard/error.h"

namespace reshard {

/// A file of a model that is not weights: configuration, tokenizer, processor, code.
struct HfAsset {
  std::string path;               ///< relative, as in the directory it comes from
  std::string from;               ///< where it lies
  uint64_t size = 0;
  std::optional<std::string> text;  ///< what to write instead of a copy
};

/// What to put beside the weights.
struct HfAssets {
  std::vector<HfAsset> files{};        ///< sorted by path
  std::vector<std::string> left_behind{};  ///< see SideFiles
  std::vector<std::string> missing{};  ///< what a loader will look for and not find, one phrase each
};

/// What in a config.json does not hold of the weights beside it.
struct ConfigEdits {
  std::optional<DType> dtype{};  ///< becomes the value of each "dtype" and "torch_dtype"
  bool dequantized = false;      ///< "quantization_config" goes
};

/// The side files of `directory`, config.json with the edits. Errors are of kind kSource: those of
/// FindSideFiles, a config.json that is no JSON.
Result<HfAssets> CollectAssets(const std::filesystem::path& directory, const ConfigEdits& edits,
                               const SideFileScope& scope = {});

/// `json` with the edits: of "dtype" and "torch_dtype" the values that name a type, at any depth;
/// "quantization_config" at the top. All other bytes stay. Nothing where the text is no JSON object.
std::optional<std::string> EditConfig(const std::string& json, const ConfigEdits& edits);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_HF_HF_ASSETS_H_
