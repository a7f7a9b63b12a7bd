#ifndef RESHARD_CHECKPOINTS_HF_HF_SOURCE_H_
#define RESHARD_CHECKPOINTS_HF_HF_SOURCE_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "reshard/source.h"

namespace reshard {

/// The weight files of a Hugging Face directory, found as transformers finds them: DCP's shards
/// (shard-00001-model-...), model.safetensors, its index, pytorch_model.bin, its index; failing
/// those, files named like parts of a set (model-00001-of-00003.safetensors) without their index.
struct HfFiles {
  enum class Layout { kSafetensors, kDcpShards, kBin } layout = Layout::kSafetensors;
  std::vector<std::string> names;  ///< relative to the directory, sorted
  std::string index;               ///< the index file, or empty
  std::string evidence;            ///< what was found, in a phrase
};

/// The weight files of `directory`; empty names where it has none. Errors are of kind kSource: a
/// set of parts with one missing, a directory that cannot be listed.
Result<HfFiles> FindHfFiles(const std::filesystem::path& directory);

/// An error of kind kSource where files that the index names are not there: it says which, and how
/// many tensors are lost with them.
Result<> CheckFilesOfIndex(const std::filesystem::path& directory, const HfFiles& files);

/// Opens a Hugging Face directory, or one .safetensors file.
Result<std::unique_ptr<Source>> OpenHfSource(const std::filesystem::path& path);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_HF_HF_SOURCE_H_
