#ifndef RESHARD_FORMATS_ZIP_ARCHIVE_LAYOUT_H_
#define RESHARD_FORMATS_ZIP_ARCHIVE_LAYOUT_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace reshard::zip {

/// Bytes of a file that are known before its data is.
struct Literal {
  uint64_t offset = 0;
  std::string bytes;
};

/// A CRC-32 that is known only when the payload is: computed over [payload_offset, +payload_size)
/// of the file, written as 4 little-endian bytes at each of `crc_offsets`. The literals hold zeros
/// there.
struct LateCrc {
  uint64_t payload_offset = 0;
  uint64_t payload_size = 0;
  std::array<uint64_t, 2> crc_offsets{};
};

/// A zip file without the bytes of its slots. Literals and slots cover every byte exactly once.
struct Layout {
  uint64_t file_size = 0;
  std::vector<Literal> literals;   ///< in file order, none of them empty
  std::vector<uint64_t> slots;     ///< offset of each slot's payload, in the order of AddSlot
  std::vector<LateCrc> late_crcs;  ///< one for each slot that is not empty, in file order
};

/// Lays out a zip file as PyTorch's writer does (caffe2/serialize/inline_container.cc over miniz):
/// stored members, each payload padded to a multiple of 64 bytes from the start of the file, sizes
/// and CRC in a descriptor behind the payload and in the central directory, zip64 where a number
/// needs it, and zip64 end records always.
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
  Layout Finish() &&;

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
  Layout layout_;
};

}  // namespace reshard::zip

#endif  // RESHARD_FORMATS_ZIP_ARCHIVE_LAYOUT_H_
