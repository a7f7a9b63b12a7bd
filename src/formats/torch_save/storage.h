#ifndef RESHARD_FORMATS_TORCH_SAVE_STORAGE_H_
#define RESHARD_FORMATS_TORCH_SAVE_STORAGE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "formats/pickle/pickle.h"
#include "reshard/dtype.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// A storage as a pickle names it: a persistent id
/// `('storage', class, key, location, size[, view])`; the last field in legacy files only.
struct StorageRef {
  std::string_view key;         ///< points into the pickle's Document
  DType dtype = DType::kUInt8;  ///< of its class; uint8 for UntypedStorage
  uint64_t bytes = 0;
  uint64_t view_offset = 0;  ///< in bytes: where a legacy view of the storage begins
  uint64_t view_bytes = 0;   ///< `bytes` where the reference is no view
};

/// Reads a persistent id. One of another shape, or of an unknown storage class, is an error of kind
/// kSource that says what it is.
Result<StorageRef> ParseStorage(const pickle::Value& value, const std::string& file);

/// An error of kind kSource about what a pickle holds.
std::unexpected<Error> BadPickle(const std::string& file, std::string found, std::string expected,
                                 std::string help = {});

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_STORAGE_H_
