#include <cstddef>
#include <cstdint>
#include <span>

#include "base/byte_source.h"
#include "formats/zip/checksum.h"
#include "formats/zip/directory.h"

/// What a directory lists must be readable.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const reshard::MemorySource source(std::as_bytes(std::span(data, size)));
  const auto directory = reshard::zip::ReadDirectory(source);
  if (!directory) return 0;
  for (const reshard::zip::Member& member : directory->members()) {
    if (directory->Find(member.name) != &member) __builtin_trap();
    if (member.data_offset + member.size > size) __builtin_trap();
    (void)reshard::zip::CheckCrc(source, member);
  }
  return 0;
}
