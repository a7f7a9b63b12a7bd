#include <cstddef>
#include <cstdint>
#include <span>

#include "base/byte_source.h"
#include "formats/torch_save/archive.h"
#include "formats/torch_save/tensor_entry.h"

namespace {

// Every element of a decoded tensor must lie in its storage, and the storage in the source.
void Check(const reshard::torch_save::TensorEntry& tensor, size_t size) {
  if (tensor.data_offset + tensor.storage_bytes > size) __builtin_trap();
  int64_t last = tensor.storage_offset;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] == 0) return;
    last += (tensor.shape[i] - 1) * tensor.strides[i];
  }
  const auto end = static_cast<uint64_t>((last + 1) * reshard::ItemSize(tensor.dtype));
  if (last < 0 || end > tensor.storage_bytes) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const reshard::MemorySource source(std::as_bytes(std::span(data, size)));
  if (const auto entry = reshard::torch_save::DecodeTensorEntry(source)) Check(*entry, size);
  if (const auto archive = reshard::torch_save::DecodeFile(source))
    for (const auto& leaf : archive->tensors) Check(leaf.tensor, size);
  return 0;
}
