// Any bytes as a DCP `.metadata`: what comes out must be consistent.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/byte_source.h"
#include "formats/dcp/dcp_metadata.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reshard;
  const MemorySource source(std::as_bytes(std::span(data, size)));
  const auto metadata = dcp::DecodeMetadata(source, {.max_memory = 1 << 24});
  if (!metadata) return 0;
  for (const dcp::TensorRecord& tensor : metadata->tensors) {
    for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
      const Chunk& chunk = metadata->chunks.at(tensor.first_chunk + i);
      const BoxView box = metadata->Box(tensor, chunk);
      for (int64_t extent : box.extent)
        if (extent <= 0) std::abort();
      (void)metadata->files.at(chunk.file);
      (void)metadata->TransformsOf(chunk.file, chunk.offset);
    }
  }
  (void)dcp::MergeMetadata({*metadata, *metadata});
  return 0;
}
