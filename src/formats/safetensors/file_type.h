#ifndef RESHARD_FORMATS_SAFETENSORS_FILE_TYPE_H_
#define RESHARD_FORMATS_SAFETENSORS_FILE_TYPE_H_

#include <cstdint>
#include <string_view>

#include "reshard/dtype.h"

namespace reshard::safetensors {

/// The member of the header that holds no tensor.
inline constexpr std::string_view kMetadataKey = "__metadata__";

/// An element type as files name it.
struct FileType {
  std::string_view name;
  DType dtype;
  uint32_t bits;     ///< of one value as the file counts them
  int64_t per_unit;  ///< values as the file counts them in one element of `dtype`
  int ordinal;       ///< place in the reference library's order, which sorts a file's tensors
};

/// The type of that name, or null.
const FileType* FindFileType(std::string_view name);

/// The type that holds `dtype`, or null where none does.
const FileType* FindFileType(DType dtype);

}  // namespace reshard::safetensors

#endif  // RESHARD_FORMATS_SAFETENSORS_FILE_TYPE_H_
