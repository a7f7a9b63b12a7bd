#ifndef RESHARD_FORMATS_ZIP_ARCHIVE_LAYOUT_H_
#define RESHARD_FORMATS_ZIP_ARCHIVE_LAYOUT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_layout.h"

namespace reshard::zip {

/// Lays out a zip file as PyTorch's writer does (caffe2/serialize/inline_container.cc over miniz):
/// stored members, each payload padded to a multiple of 64 bytes from the start of the file, sizes
/// and CRC in a descriptor behind the payload and in the central directory, zip64 where a number
/// needs it, and zip64 end records always. Literals and slots cover every byte exactly once; the
/// literals hold zeros where late CRCs go.
class ArchiveLayout {
 public:
  /// Member names become `prefix`/name. A name with its prefix has at most 65,000 bytes, and names
  /// differ: the caller's duty, as it is that the sizes sum to less than 2^63.
  explicit ArchiveLayout(std::string_view prefix) : prefix_(prefix) {}

  /// A member whose bytes are known.
  void AddLiteral(std::string_view name, std::string_view bytes);

  /// A member of `size` bytes that are written later.
  void AddSlot(std::string_view name, uint64_t size);

  /// Writes the directory and the end records; the object is spent.
  FileLayout Finish() &&;

 private:
  struct Member {
    std::string name;
    uint64_t header_offset = 0;
    uint64_t size = 0;
    uint32_t crc = 0;
    bool is_late = false;
  };

  uint64_t position() const { return text_offset_ + text_.size(); }
  void AppendLocalHeader(const Member& member);
  void AppendDescriptor(const Member& member);
  void AppendCentralHeader(const Member& member);
  void AppendEndRecords(uint64_t directory_offset);
  void FlushText();

  std::string prefix_;
  std::vector<Member> members_;
  std::string text_;  // the literal under way, which starts at text_offset_
  uint64_t text_offset_ = 0;
  FileLayout layout_;
};

}  // namespace reshard::zip

#endif  // RESHARD_FORMATS_ZIP_ARCHIVE_LAYOUT_H_
