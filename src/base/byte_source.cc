#include "base/byte_source.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/checked_math.h"

namespace reshard {

Error PastEndError(const std::string& name, uint64_t offset, uint64_t length, uint64_t size) {
  return Error{.kind = ErrorKind::kSource,
               .file = name,
               .offset = offset,
               .found = fmt::format("the file ends at byte {}", size),
               .expected = fmt::format("{} bytes at offset {}", length, offset),
               .help = "the file is truncated: copy it again from where it was written"};
}

Result<> MemorySource::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  if (!InRange(offset, out.size(), bytes_.size()))
    return std::unexpected(PastEndError(name_, offset, out.size(), bytes_.size()));
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  return {};
}

SubSource::SubSource(const ByteSource& base, uint64_t offset, uint64_t length)
    : base_(base),
      offset_(std::min(offset, base.size())),
      length_(std::min(length, base.size() - offset_)) {}

Result<> SubSource::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  if (!InRange(offset, out.size(), length_))
    return std::unexpected(
        PastEndError(name(), origin() + offset, out.size(), origin() + length_));
  return base_.ReadAt(offset_ + offset, out);
}

}  // namespace reshard
