#ifndef RESHARD_FORMATS_PICKLE_WINDOW_H_
#define RESHARD_FORMATS_PICKLE_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/byte_source.h"
#include "reshard/error.h"

namespace reshard::pickle {

/// The part of a source that is in memory, moved forward as a reader goes. The reader keeps its own
/// pointer into the bytes.
///
/// Where a pointer is below safe_end(), kSlack bytes from it may be read. Near the end of the
/// source some of them are zeros that are not in the source: a pointer that has moved past end()
/// has read such bytes, and the next Refill() reports it.
class Window {
 public:
  /// More than an opcode with its operand, short strings included.
  static constexpr size_t kSlack = 272;

  explicit Window(const ByteSource& source) : source_(source) {}

  /// Brings the byte at `offset` into memory and returns its address. An error (kSource) where the
  /// source ends before it or cannot be read.
  Result<const uint8_t*> Seek(uint64_t offset);

  /// As Seek for the byte that `p` stands for, and moves it to the front. Other pointers into the
  /// window become invalid.
  Result<const uint8_t*> Refill(const uint8_t* p);

  /// The address after the `length` bytes at `p`; moves the window where they reach past it. Other
  /// pointers become invalid. An error (kSource) where the source has fewer bytes.
  Result<const uint8_t*> Skip(const uint8_t* p, uint64_t length);

  /// As Skip, and copies the bytes to `out`.
  Result<const uint8_t*> CopyOut(const uint8_t* p, std::span<char> out);

  /// The line of text at `p`, without its newline; it lies in the window, and moves it where it has
  /// to: other pointers become invalid. An error (kSource) where the line is too long for a name.
  Result<std::string_view> Line(const uint8_t* p);

  const uint8_t* safe_end() const { return safe_end_; }
  const uint8_t* end() const { return end_; }
  uint64_t OffsetOf(const uint8_t* p) const {
    return begin_offset_ + static_cast<uint64_t>(p - begin_);
  }
  /// The same as an error names it: in the file that the source is a part of.
  uint64_t FileOffsetOf(const uint8_t* p) const { return source_.origin() + OffsetOf(p); }
  /// Bytes of the source from `p` on; 0 where `p` is past the end.
  uint64_t BytesLeft(const uint8_t* p) const;

  const ByteSource& source() const { return source_; }

 private:
  Error PastEnd(uint64_t offset, uint64_t length) const;
  Result<> CheckLeft(const uint8_t* p, uint64_t length) const;
  Result<const uint8_t*> Load(uint64_t offset);

  const ByteSource& source_;
  std::unique_ptr<uint8_t[]> buffer_;
  size_t capacity_ = 0;  // without the slack
  uint64_t begin_offset_ = 0;
  const uint8_t* begin_ = nullptr;
  const uint8_t* end_ = nullptr;
  const uint8_t* safe_end_ = nullptr;
};

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_WINDOW_H_
