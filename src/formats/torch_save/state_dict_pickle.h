#ifndef RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_PICKLE_H_
#define RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_PICKLE_H_

#include <span>
#include <string>

#include "base/file_layout.h"

namespace reshard::torch_save {

/// The pickle (protocol 2) of a dict of contiguous tensors, the i-th over the whole of the storage
/// with the key "i": byte for byte what torch.save writes.
std::string PickleStateDict(std::span<const TensorDecl> tensors);

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_PICKLE_H_
