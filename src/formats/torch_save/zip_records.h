#ifndef RESHARD_FORMATS_TORCH_SAVE_ZIP_RECORDS_H_
#define RESHARD_FORMATS_TORCH_SAVE_ZIP_RECORDS_H_

#include <string>

#include "base/byte_source.h"
#include "formats/pickle/pickle.h"
#include "formats/torch_save/tensor.h"
#include "formats/torch_save/tensor_entry.h"
#include "formats/zip/directory.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// The records of a torch.save zip (torch/serialization.py, _save and _load):
/// `P/data.pkl`, `P/data/KEY` for each storage, `P/version`, and since torch 2.1 `P/byteorder`,
/// where P is what stands before the first '/' of the first record's name.
class ZipRecords {
 public:
  /// Reads the directory, checks the version, decodes the pickle. `source` must outlive the result.
  static Result<ZipRecords> Open(const ByteSource& source);

  const pickle::Value& root() const { return document_.root(); }
  bool big_endian() const { return big_endian_; }

  /// Where the tensor's elements lie. Its storage's record must have the size that the pickle says.
  Result<TensorEntry> Place(TensorCall tensor) const;

 private:
  ZipRecords(const ByteSource& source, zip::Directory directory, std::string prefix,
             pickle::Document document, bool big_endian)
      : source_(&source),
        directory_(std::move(directory)),
        prefix_(std::move(prefix)),
        document_(std::move(document)),
        big_endian_(big_endian) {}

  const ByteSource* source_;
  zip::Directory directory_;
  std::string prefix_;  // with the '/'
  pickle::Document document_;
  bool big_endian_;
};

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_ZIP_RECORDS_H_
