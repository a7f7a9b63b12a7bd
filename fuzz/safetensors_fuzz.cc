// Any bytes are a header or an error. What a header says fills the file without gaps, and can be
// written again.

#include <cstdlib>

#include "formats/safetensors/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reshard;
  const MemorySource file(std::as_bytes(std::span(data, size)));
  const auto header = safetensors::DecodeHeader(file);
  if (!header) return 0;
  uint64_t end = header->header_bytes;
  std::vector<TensorDecl> decls;
  for (const safetensors::TensorInfo& tensor : header->tensors) {
    if (tensor.begin != end) std::abort();
    end += tensor.length;
    decls.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  if (end != size) std::abort();

  const auto layout = safetensors::EncodeHeader(decls, header->metadata);
  if (!layout) std::abort();
  std::string again = layout->literals[0].bytes;
  again.resize(layout->size);
  const auto header_again = safetensors::DecodeHeader(MemorySource(again));
  if (!header_again || header_again->metadata != header->metadata ||
      header_again->tensors.size() != decls.size())
    std::abort();
  return 0;
}
