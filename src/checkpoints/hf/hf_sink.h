#ifndef RESHARD_CHECKPOINTS_HF_HF_SINK_H_
#define RESHARD_CHECKPOINTS_HF_HF_SINK_H_

#include <map>
#include <span>
#include <string>

#include "base/file_layout.h"
#include "reshard/error.h"
#include "reshard/request.h"

namespace reshard {

/// The name of weight file number `index` of `count`, as transformers names them.
std::string WeightFileName(Weights weights, size_t index, size_t count);

/// The name of the index file beside several weight files.
std::string IndexFileName(Weights weights);

/// Lays out one weight file. `metadata` goes into the header of a safetensors file, and has no place
/// in another. A tensor that the format cannot hold is an error of kind kMapping.
Result<FileLayout> LayoutWeights(Weights weights, std::span<const TensorDecl> tensors,
                                 std::map<std::string, std::string> metadata);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_HF_HF_SINK_H_
