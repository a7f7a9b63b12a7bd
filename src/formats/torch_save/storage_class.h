#ifndef RESHARD_FORMATS_TORCH_SAVE_STORAGE_CLASS_H_
#define RESHARD_FORMATS_TORCH_SAVE_STORAGE_CLASS_H_

#include <optional>
#include <string_view>

#include "reshard/dtype.h"

namespace reshard::torch_save {

/// The dtype of torch's typed storage class of that name: "FloatStorage" is float32.
std::optional<DType> StorageClassDType(std::string_view name);

/// The inverse; nothing for a dtype that torch keeps in an UntypedStorage only (the version 3
/// dtypes: uint16, float8_e4m3fn, ...).
std::optional<std::string_view> StorageClassName(DType dtype);

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_STORAGE_CLASS_H_
