#ifndef RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_WRITER_H_
#define RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_WRITER_H_

#include <span>
#include <string_view>

#include "base/file_layout.h"
#include "formats/torch_save/dict.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// Lays out a file that torch.load(weights_only=True) reads as this dict. It is byte for byte what
/// torch.save (2.7 and later) writes, but for the last record, `.data/serialization_id`, which is
/// optional and left out. The slots take the row-major, little-endian data of each tensor, in the
/// order in which the dict, read from front to back and into the dicts within it, has them; no
/// tensor data is touched here. Types without a storage class (uint16, float8_*, ...) are written
/// as torch does, and read by torch 2.2 and later.
///
/// `archive_name` is the folder within the zip; torch takes the file's name without its extension.
///
/// Errors are of kind kMapping and name the tensor by its keys joined with '.': one without a type
/// of its own in torch (float6), or with one that torch keeps in quantized tensors only; a key that
/// stands twice in one dict; a key or text of 1 MiB; a shape that is negative or too large.
Result<FileLayout> EncodeDict(const Dict& dict, std::string_view archive_name = "archive");

/// EncodeDict of tensors under their own names.
Result<FileLayout> EncodeStateDict(std::span<const TensorDecl> tensors,
                                   std::string_view archive_name = "archive");

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_STATE_DICT_WRITER_H_
