#ifndef RESHARD_FORMATS_ZIP_END_RECORD_H_
#define RESHARD_FORMATS_ZIP_END_RECORD_H_

#include <cstdint>
#include <string>

#include "base/byte_source.h"
#include "reshard/error.h"

namespace reshard::zip {

/// Where the central directory of a zip lies, as the records at its very end say.
struct EndRecord {
  uint64_t entries = 0;
  uint64_t directory_offset = 0;  ///< relative to the start of the source
  uint64_t directory_size = 0;
};

/// Reads the end records: one read of 98 bytes. The source must end with them (a comment, or bytes
/// after the end, are an error), and the directory must end where they begin. Bounded on return:
/// the directory lies in the source, is at most 1 GiB long, and has room for its entries, of which
/// there are at most 10 million.
Result<EndRecord> ReadEndRecord(const ByteSource& source);

/// An error of kind kSource at `offset` of `source`.
std::unexpected<Error> Damaged(const ByteSource& source, uint64_t offset, std::string found,
                               std::string expected, std::string help = {});

}  // namespace reshard::zip

#endif  // RESHARD_FORMATS_ZIP_END_RECORD_H_
