#ifndef RESHARD_FORMATS_TORCH_SAVE_ENTRY_WRITER_H_
#define RESHARD_FORMATS_TORCH_SAVE_ENTRY_WRITER_H_

#include <cstdint>
#include <string>
#include <variant>

#include "base/file_layout.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// A value that is no tensor: None, bool, int, float or str (UTF-8) of Python.
using PlainValue = std::variant<std::monostate, bool, int64_t, double, std::string>;

/// Lays out what torch.save makes of one contiguous tensor: a chunk of a DCP checkpoint. One slot.
/// See LayoutArchive for what is written and CountBytes for the errors; the name is for them alone.
Result<FileLayout> EncodeTensor(const TensorDecl& tensor);

/// What torch.save makes of the value: an object of a DCP checkpoint. No slot, no late CRC, and one
/// literal. A text has less than 4 GiB.
FileLayout EncodeValue(const PlainValue& value);

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_ENTRY_WRITER_H_
