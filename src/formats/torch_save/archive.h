#ifndef RESHARD_FORMATS_TORCH_SAVE_ARCHIVE_H_
#define RESHARD_FORMATS_TORCH_SAVE_ARCHIVE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "formats/pickle/pickle.h"
#include "formats/torch_save/flatten.h"
#include "formats/torch_save/tensor_entry.h"
#include "reshard/error.h"

namespace reshard::torch_save {

struct TensorLeaf {
  std::string name;  ///< the parts of `path` joined by '.'
  Path path;
  TensorEntry tensor;  ///< offsets are in the file; tensors may share a storage, or parts of one
};

/// A leaf that is a tensor in a form that is not read, or holds such ones.
struct UnreadableLeaf {
  std::string name;
  Path path;
  std::string what;  ///< see UnsupportedTensor and TensorHolder: `a quantized tensor`
};

/// A leaf without any tensor.
struct ObjectLeaf {
  std::string name;
  Path path;
  std::string summary;  ///< see Summarize: `3e-05`, `"adamw"`
};

enum class Container : uint8_t { kZip, kLegacy };

/// What a torch.save file holds, flattened: see Flatten.
struct Archive {
  Container container = Container::kZip;
  std::vector<TensorLeaf> tensors;  ///< in file order
  std::vector<UnreadableLeaf> unreadable;
  std::vector<ObjectLeaf> objects;
};

/// Is shown the decoded object, whose values are gone after the call: for what a kind of file means
/// beyond its leaves. Its error becomes that of DecodeFile.
using RootVisitor = std::function<Result<>(const pickle::Value& root)>;

/// Decodes a whole torch.save file: a zip (since torch 1.6) or a legacy one. No tensor data is
/// read. A file that holds one value instead of a dictionary or list gives one leaf, named "tensor"
/// or "object".
///
/// Quantized, sparse, meta and other tensors that are not dense are `unreadable`, and so is every
/// other value with tensors in it that flattening does not take apart: a tuple, an object of any
/// class. What is left are objects. Errors are of kind kSource: a damaged or truncated file, a tensor over an
/// unknown storage, two leaves with one flattened name, a TorchScript program, the tar format of
/// torch before 0.1.10.
Result<Archive> DecodeFile(const ByteSource& file, const RootVisitor& visit = {});

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_ARCHIVE_H_
