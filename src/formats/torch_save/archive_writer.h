#ifndef RESHARD_FORMATS_TORCH_SAVE_ARCHIVE_WRITER_H_
#define RESHARD_FORMATS_TORCH_SAVE_ARCHIVE_WRITER_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "base/file_layout.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// Bytes of a tensor's data. Errors are of kind kMapping and name the tensor `name`: a type that
/// torch does not have (float6) or has in quantized tensors only, a negative dimension, 2^62 bytes
/// or more.
Result<uint64_t> CountBytes(DType dtype, std::span<const int64_t> shape, std::string_view name);

/// The zip that torch.save makes of a pickle and the storages that it refers to, whose sizes are
/// given in the order of their keys: byte for byte what torch 2.7 and later write, but for the last
/// record, `.data/serialization_id`, which is optional and left out. One slot for each storage. The
/// sizes sum to less than 2^63.
FileLayout LayoutArchive(std::string_view archive_name, std::string_view pickle,
                         std::span<const uint64_t> storages);

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_ARCHIVE_WRITER_H_
