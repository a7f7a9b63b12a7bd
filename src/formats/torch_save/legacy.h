#ifndef RESHARD_FORMATS_TORCH_SAVE_LEGACY_H_
#define RESHARD_FORMATS_TORCH_SAVE_LEGACY_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/byte_source.h"
#include "formats/pickle/pickle.h"
#include "formats/torch_save/tensor.h"
#include "formats/torch_save/tensor_entry.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// A file of torch.save before the zip format (torch/serialization.py, _legacy_save): the pickles
/// of a magic number, a version, the machine's sizes, the object, and the sorted list of storage
/// keys; then for each key an i64 number of elements and the elements, little-endian on any
/// machine.
class LegacyRecords {
 public:
  /// Decodes the pickles and finds every storage; the file must end with the last one. `file` must
  /// outlive the result.
  static Result<LegacyRecords> Open(const ByteSource& file);

  const pickle::Value& root() const { return document_.root(); }
  bool big_endian() const { return false; }

  /// Where the tensor's elements lie.
  Result<TensorEntry> Place(TensorCall tensor) const;

 private:
  /// Storages by key: where the bytes begin, and how many there are.
  struct Storage {
    uint64_t offset = 0;
    uint64_t bytes = 0;
    int64_t item_size = 1;
  };
  using Storages = std::map<std::string, Storage, std::less<>>;

  LegacyRecords(const ByteSource& file, pickle::Document document, Storages storages)
      : file_(&file), document_(std::move(document)), storages_(std::move(storages)) {}

  /// Every storage that `root` refers to, also from what is no tensor of ours.
  static Result<Storages> Collect(const pickle::Value& root, const std::string& file);
  /// Walks the storages' bytes in the order of `keys`.
  static Result<> Locate(const ByteSource& file, const pickle::Document& keys, Storages* storages);

  const ByteSource* file_;
  pickle::Document document_;
  Storages storages_;
};

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_LEGACY_H_
