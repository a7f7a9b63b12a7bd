#ifndef RESHARD_FORMATS_TORCH_SAVE_TENSOR_ENTRY_H_
#define RESHARD_FORMATS_TORCH_SAVE_TENSOR_ENTRY_H_

#include <cstdint>
#include <vector>

#include "base/byte_source.h"
#include "reshard/catalog.h"
#include "reshard/dtype.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// A strided tensor over a storage: element (i, j, ...) begins at byte
/// data_offset + (storage_offset + i*strides[0] + j*strides[1] + ...) * ItemSize(dtype)
/// of the source. Every element lies in [data_offset, data_offset + storage_bytes), which lies in
/// the source. Nothing is aligned.
struct TensorEntry {
  DType dtype = DType::kFloat32;
  Shape shape;
  std::vector<int64_t> strides;  ///< in elements; never negative; 0 where one element repeats
  int64_t storage_offset = 0;    ///< in elements
  uint64_t data_offset = 0;      ///< of the storage's first byte
  uint64_t storage_bytes = 0;
  uint32_t crc = 0;         ///< CRC-32 of the storage's bytes; 0 where the file does not say
  bool conjugate = false;   ///< imaginary parts are to be negated
  bool negate = false;      ///< values are to be negated
  bool big_endian = false;  ///< elements (both halves of a complex one) are stored big-endian
};

/// Decodes a torch.save zip that holds one tensor and nothing else: a chunk of a DCP checkpoint.
/// Usually two reads of about 1 KiB, one where `entry` is small; the data itself is not read.
///
/// The pickle's CRC-32 is checked where the zip has one. Errors are of kind kSource: a damaged or
/// truncated zip, no tensor, or one that is not dense (quantized, sparse, meta, a wrapping class).
Result<TensorEntry> DecodeTensorEntry(const ByteSource& entry);

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_TENSOR_ENTRY_H_
