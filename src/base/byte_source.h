#ifndef RESHARD_BASE_BYTE_SOURCE_H_
#define RESHARD_BASE_BYTE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "reshard/error.h"

namespace reshard {

/// Bytes at known positions, wherever they lie: what decoders read from. Implementations are safe
/// to read from several threads at once.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// Number of bytes; fixed for the life of the object.
  virtual uint64_t size() const = 0;

  /// The name that errors show: a path.
  virtual const std::string& name() const = 0;

  /// Where byte 0 lies in the file of that name: what an error adds to its offsets.
  virtual uint64_t origin() const { return 0; }

  /// Fills `out` from `offset`. Asking for bytes past the end is an error of kind kSource.
  virtual Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const = 0;
};

/// Bytes that the caller holds and keeps alive.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const std::byte> bytes, std::string name = "<memory>")
      : bytes_(bytes), name_(std::move(name)) {}
  explicit MemorySource(std::string_view bytes, std::string name = "<memory>")
      : MemorySource(std::as_bytes(std::span(bytes)), std::move(name)) {}

  uint64_t size() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override;

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
};

/// The part [offset, offset + length) of another source, which must outlive it; clipped to the
/// other's end. Offsets in the errors it makes are those of the file.
class SubSource final : public ByteSource {
 public:
  SubSource(const ByteSource& base, uint64_t offset, uint64_t length);

  uint64_t size() const override { return length_; }
  const std::string& name() const override { return base_.name(); }
  uint64_t origin() const override { return base_.origin() + offset_; }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override;

 private:
  const ByteSource& base_;
  uint64_t offset_;
  uint64_t length_;
};

/// The error for a read of [offset, offset + length) from a source of `size` bytes.
Error PastEndError(const std::string& name, uint64_t offset, uint64_t length, uint64_t size);

}  // namespace reshard

#endif  // RESHARD_BASE_BYTE_SOURCE_H_
