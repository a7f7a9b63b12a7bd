#ifndef RESHARD_FORMATS_ZIP_DIRECTORY_H_
#define RESHARD_FORMATS_ZIP_DIRECTORY_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/byte_source.h"
#include "reshard/error.h"

/// Zip archives whose members are stored, not compressed: what torch.save writes. All offsets are
/// relative to the start of the source.
namespace reshard::zip {

struct Member {
  std::string_view name;  ///< as its bytes stand in the archive; valid as long as the Directory
  uint64_t header_offset = 0;
  uint64_t data_offset = 0;
  uint64_t size = 0;
  uint32_t crc = 0;  ///< CRC-32 of the data; PyTorch writes 0 where it was told not to compute it
};

/// The members of an archive, checked: they lie between the start of the source and the directory,
/// do not overlap, have distinct names, and their local headers agree with the directory.
class Directory {
 public:
  Directory(Directory&&) = default;
  Directory& operator=(Directory&&) = default;

  /// In the order of the archive's central directory.
  std::span<const Member> members() const { return members_; }

  /// The member of exactly that name, or null.
  const Member* Find(std::string_view name) const;

 private:
  friend Result<Directory> ReadDirectory(const ByteSource& source);
  Directory() = default;

  std::vector<char> raw_;  // the central directory; names point into it
  std::vector<Member> members_;
  std::vector<uint32_t> by_name_;  // indices into members_
};

/// Reads the central directory and every member's local header. Numbers come from the central
/// directory: PyTorch leaves those of the local headers empty. A compressed or encrypted member is
/// an error. Errors are of kind kSource.
Result<Directory> ReadDirectory(const ByteSource& source);

}  // namespace reshard::zip

#endif  // RESHARD_FORMATS_ZIP_DIRECTORY_H_
