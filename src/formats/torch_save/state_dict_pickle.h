#ifndef RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_PICKLE_H_
#define RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_PICKLE_H_

#include <string>

#include "formats/torch_save/dict.h"

namespace reshard::torch_save {

/// The pickle (protocol 2) of a dict. Its tensors are contiguous, the i-th in the order of writing
/// over the whole of the storage with the key "i": byte for byte what torch.save writes where no
/// two texts are one Python object.
std::string PickleDict(const Dict& dict);

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_PICKLE_H_
