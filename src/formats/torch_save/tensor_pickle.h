#ifndef RESHARD_FORMATS_TORCH_SAVE_TENSOR_PICKLE_H_
#define RESHARD_FORMATS_TORCH_SAVE_TENSOR_PICKLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/pickle/writer.h"
#include "reshard/dtype.h"

namespace reshard::torch_save {

/// Writes the tensors of one pickle as torch.save does: the calls of _rebuild_tensor_v2 and v3,
/// with the memo slots that CPython's pickler gives.
class TensorPickler {
 public:
  explicit TensorPickler(pickle::Writer* out) : out_(*out) {}

  /// Pushes a contiguous tensor over the whole of the storage whose key is `storage` in decimal.
  /// The shape has passed CheckedNumel, and its bytes fit int64.
  void Write(DType dtype, std::span<const int64_t> shape, size_t storage);

 private:
  void WriteStorage(DType dtype, int64_t numel, size_t storage);
  void WriteTuple(std::span<const int64_t> values);

  pickle::Writer& out_;
  pickle::Writer::Slot rebuild_v2_, rebuild_v3_, storage_, cpu_, untyped_, ordered_dict_;
  std::array<pickle::Writer::Slot, kDTypeCount> by_dtype_;  // storage class, or dtype for v3
};

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_TENSOR_PICKLE_H_
