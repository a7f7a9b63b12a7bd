#include "formats/zip/checksum.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>

#include "base/try.h"
#include "formats/zip/end_record.h"

namespace reshard::zip {

uint32_t Crc32(std::string_view bytes) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

Result<> CheckCrc(const ByteSource& source, const Member& member) {
  if (member.crc == 0) return {};
  std::array<std::byte, 8192> window;
  uLong crc = 0;
  for (uint64_t done = 0; done < member.size;) {
    const auto part =
        std::span(window).first(std::min<uint64_t>(window.size(), member.size - done));
    RESHARD_TRY(source.ReadAt(member.data_offset + done, part));
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(part.data()), part.size());
    done += part.size();
  }
  if (crc != member.crc)
    return Damaged(source, member.data_offset,
                   fmt::format("the member '{}' has the CRC-32 {:08x}", member.name, crc),
                   fmt::format("{:08x}, as the zip directory says", member.crc),
                   "the file was damaged after it was written: copy it again");
  return {};
}

}  // namespace reshard::zip
