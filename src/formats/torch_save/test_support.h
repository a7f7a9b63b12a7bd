#ifndef RESHARD_FORMATS_TORCH_SAVE_TEST_SUPPORT_H_
#define RESHARD_FORMATS_TORCH_SAVE_TEST_SUPPORT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_source.h"
#include "base/file_layout.h"
#include "formats/torch_save/tensor_entry.h"

/// What the tests of this folder share.
namespace reshard::torch_save {

/// The bytes of a file under tests/data/.
std::string TestFile(const std::string& path);

/// The tensor's elements, contiguous, little-endian, conjugated and negated as its flags ask.
std::string Gather(const ByteSource& source, const TensorEntry& tensor);

/// The file that the layout describes, with `data` in its slots.
std::string Assemble(const FileLayout& layout, const std::vector<std::string>& data);

/// Compares a zip of ours with the one that torch writes, which has one record more, the last one.
void ExpectAsTorchWrites(std::string_view ours, std::string_view torch);

std::string FromHex(std::string_view hex);

/// A zip of records under "archive/".
std::string Zip(const std::vector<std::pair<std::string, std::string>>& records);

/// A torch.save zip of `pickle` and one storage, "0".
std::string TorchZip(const std::string& pickle, const std::string& storage);

/// Pieces of protocol 2 pickles.
std::string Pickle(const std::string& body);  ///< with PROTO and STOP
std::string Text(std::string_view text);
std::string Int(int64_t number);
std::string Tuple(const std::vector<int64_t>& numbers);

/// A call of torch._utils._rebuild_tensor_v2 over the storage "0".
struct TensorPickle {
  std::string storage_class = "torch\nFloatStorage";  ///< module, newline, name
  int64_t numel = 4;
  int64_t offset = 0;
  std::vector<int64_t> shape = {2, 2};
  std::vector<int64_t> strides = {2, 1};
  std::string metadata = "";  ///< the last argument, if any

  std::string Body() const;
};

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_TEST_SUPPORT_H_
