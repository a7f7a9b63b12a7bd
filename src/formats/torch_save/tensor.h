#ifndef RESHARD_FORMATS_TORCH_SAVE_TENSOR_H_
#define RESHARD_FORMATS_TORCH_SAVE_TENSOR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/pickle/pickle.h"
#include "formats/torch_save/storage.h"
#include "formats/torch_save/tensor_entry.h"
#include "reshard/catalog.h"
#include "reshard/dtype.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// A strided tensor as a pickle describes it, checked in itself: as many strides as dimensions, no
/// negative number, and no element past the end of the storage that the pickle declares.
struct TensorCall {
  StorageRef storage;
  DType dtype = DType::kFloat32;
  Shape shape;
  std::vector<int64_t> strides;  ///< in elements
  int64_t storage_offset = 0;    ///< in elements
  bool conjugate = false;
  bool negate = false;
};

/// True where the value would rebuild a tensor of any kind.
bool IsTensor(const pickle::Value& value);

/// What kind of tensor `value` is, if it is one whose elements are not simply strided over one
/// storage: "a quantized tensor", "a sparse tensor", "a tensor of the class my.Wrapped", ...
std::optional<std::string> UnsupportedTensor(const pickle::Value& value);

/// What `value`, which is no tensor, is where tensors or bare storages stand in it: "a tuple with
/// tensors in it". Gives up, and says so by the same words, where it holds more than `*budget`
/// values, of which it takes those that it looks at.
std::optional<std::string> TensorHolder(const pickle::Value& value, uint64_t* budget);

/// Reads a call of torch._utils._rebuild_tensor, _v2 or _v3, also inside _rebuild_parameter and
/// _rebuild_from_type_v2. Anything else is an error of kind kSource that says what it is.
Result<TensorCall> ParseTensor(const pickle::Value& value, const std::string& file);

/// Puts a parsed tensor over its storage, whose bytes begin at `storage_offset` of the source.
TensorEntry PlaceTensor(TensorCall tensor, uint64_t storage_offset, bool big_endian);

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_TENSOR_H_
