#ifndef RESHARD_REQUEST_H_
#define RESHARD_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "reshard/dtype.h"

namespace reshard {

/// In which order tensors are put into files.
enum class Packing {
  kNatural,        ///< numbers in names count as numbers: layer 2 before layer 10
  kLexicographic,  ///< bytes of names: layer 10 before layer 2
};

/// The file format of the weights in a Hugging Face directory.
enum class Weights { kSafetensors, kBin };

/// What is to be made of what.
struct ConvertRequest {
  std::string source;              ///< a directory or a file
  std::string destination;         ///< a directory that does not exist yet
  std::string from = "auto";       ///< the source's kind: auto, dcp, hf, megatron, pt
  std::string recipe = "auto";     ///< auto, a built-in recipe's name, or a file
  Packing packing = Packing::kNatural;
  std::optional<DType> dtype{};    ///< floating tensors become this; nothing keeps them
  std::vector<std::pair<std::string, DType>> dtype_for{};  ///< expression -> type; the first wins
  uint64_t shard_size = 5'000'000'000;  ///< most bytes of tensors in a file
  Weights weights = Weights::kSafetensors;
  std::string assets_from{};       ///< where config and tokenizer lie; empty: with or beside the source
  std::vector<std::string> ignore{};    ///< expressions for source names that may be dropped
};

}  // namespace reshard

#endif  // RESHARD_REQUEST_H_
