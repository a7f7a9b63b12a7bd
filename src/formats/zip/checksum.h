#ifndef RESHARD_FORMATS_ZIP_CHECKSUM_H_
#define RESHARD_FORMATS_ZIP_CHECKSUM_H_

#include <cstdint>
#include <string_view>

#include "base/byte_source.h"
#include "formats/zip/directory.h"
#include "reshard/error.h"

namespace reshard::zip {

/// The CRC-32 of `bytes`, as zip uses it.
uint32_t Crc32(std::string_view bytes);

/// Reads the member's data and compares its CRC-32; a difference is an error of kind kSource. A CRC
/// of 0 in the directory is taken as "not computed" and passes.
Result<> CheckCrc(const ByteSource& source, const Member& member);

}  // namespace reshard::zip

#endif  // RESHARD_FORMATS_ZIP_CHECKSUM_H_
