#include "checkpoints/hf/hf_sink.h"

#include <fmt/format.h>

#include "formats/safetensors/safetensors.h"
#include "formats/torch_save/state_dict_writer.h"

namespace reshard {

std::string WeightFileName(Weights weights, size_t index, size_t count) {
  const auto [stem, extension] = weights == Weights::kSafetensors
                                     ? std::pair("model", "safetensors")
                                     : std::pair("pytorch_model", "bin");
  if (count == 1) return fmt::format("{}.{}", stem, extension);
  return fmt::format("{}-{:05}-of-{:05}.{}", stem, index + 1, count, extension);
}

std::string IndexFileName(Weights weights) {
  return WeightFileName(weights, 0, 1) + ".index.json";
}

Result<FileLayout> LayoutWeights(Weights weights, std::span<const TensorDecl> tensors,
                                 std::map<std::string, std::string> metadata) {
  if (weights == Weights::kBin) return torch_save::EncodeStateDict(tensors, "pytorch_model");
  // transformers before 5 refuses files without this.
  metadata["format"] = "pt";
  return safetensors::EncodeHeader(tensors, metadata);
}

}  // namespace reshard
