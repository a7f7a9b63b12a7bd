#include "formats/zip/end_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/checked_math.h"
#include "base/endian.h"
#include "base/try.h"
#include "formats/zip/records.h"

namespace reshard::zip {
namespace {

constexpr uint64_t kTailSize = kEnd64Size + kLocator64Size + kEndSize;
constexpr uint64_t kMaxDirectorySize = uint64_t{1} << 30;
constexpr uint64_t kMaxEntries = 10'000'000;

// The last bytes of a zip. `bytes` is filled from the back: the source may be shorter than it.
struct Tail {
  std::array<std::byte, kTailSize> bytes{};
  const std::byte* end64() const { return bytes.data(); }
  const std::byte* locator64() const { return bytes.data() + kEnd64Size; }
  const std::byte* end() const { return bytes.data() + kEnd64Size + kLocator64Size; }
};

Result<EndRecord> ParseEnd(const ByteSource& source, const Tail& tail) {
  const uint64_t at = source.size() - kEndSize;
  if (LoadLittle<uint32_t>(tail.end()) != kEndSignature ||
      LoadLittle<uint16_t>(tail.end() + 20) != 0)
    return Damaged(source, at, "there is no zip end record at the end",
                   "the signature PK\\5\\6, 22 bytes before the end",
                   "the file is truncated or was changed: copy it again from where it was written");
  const auto disk = LoadLittle<uint16_t>(tail.end() + 4);
  const auto directory_disk = LoadLittle<uint16_t>(tail.end() + 6);
  const auto entries_here = LoadLittle<uint16_t>(tail.end() + 8);
  const auto entries = LoadLittle<uint16_t>(tail.end() + 10);
  if (disk != 0 || directory_disk != 0 || entries != entries_here)
    return Damaged(source, at, "the zip is one part of several", "a zip in one file");
  return EndRecord{.entries = entries,
                   .directory_offset = LoadLittle<uint32_t>(tail.end() + 16),
                   .directory_size = LoadLittle<uint32_t>(tail.end() + 12)};
}

bool HasEnd64(const ByteSource& source, const Tail& tail) {
  return source.size() >= kTailSize &&
         LoadLittle<uint32_t>(tail.locator64()) == kLocator64Signature;
}

Result<EndRecord> ParseEnd64(const ByteSource& source, const Tail& tail, const EndRecord& end) {
  const uint64_t at = source.size() - kTailSize;
  const std::byte* record = tail.end64();
  if (LoadLittle<uint64_t>(tail.locator64() + 8) != at ||
      LoadLittle<uint32_t>(record) != kEnd64Signature ||
      LoadLittle<uint64_t>(record + 4) != kEnd64Size - 12)
    return Damaged(source, at, "there is no zip64 end record before its locator",
                   "the signature PK\\6\\6, 98 bytes before the end");
  const EndRecord end64{.entries = LoadLittle<uint64_t>(record + 32),
                        .directory_offset = LoadLittle<uint64_t>(record + 48),
                        .directory_size = LoadLittle<uint64_t>(record + 40)};
  const bool one_disk = LoadLittle<uint32_t>(record + 16) == 0 &&
                        LoadLittle<uint32_t>(record + 20) == 0 &&
                        LoadLittle<uint64_t>(record + 24) == end64.entries;
  const auto agrees = [](uint64_t small, uint64_t saturated, uint64_t large) {
    return small == saturated || small == large;
  };
  if (!one_disk || !agrees(end.entries, kSaturated16, end64.entries) ||
      !agrees(end.directory_offset, kSaturated32, end64.directory_offset) ||
      !agrees(end.directory_size, kSaturated32, end64.directory_size))
    return Damaged(source, at, "the two zip end records contradict each other",
                   "the same counts and offsets in both");
  return end64;
}

}  // namespace

std::unexpected<Error> Damaged(const ByteSource& source, uint64_t offset, std::string found,
                               std::string expected, std::string help) {
  return std::unexpected(Error{.kind = ErrorKind::kSource,
                               .file = source.name(),
                               .offset = source.origin() + offset,
                               .found = std::move(found),
                               .expected = std::move(expected),
                               .help = std::move(help)});
}

Result<EndRecord> ReadEndRecord(const ByteSource& source) {
  const uint64_t size = source.size();
  if (size < kEndSize)
    return Damaged(source, 0, fmt::format("a zip of {} bytes", size),
                   fmt::format("at least {} bytes", kEndSize),
                   "the file is truncated: copy it again from where it was written");
  Tail tail;
  const uint64_t length = std::min(size, kTailSize);
  RESHARD_TRY(source.ReadAt(size - length, std::span(tail.bytes).last(length)));
  RESHARD_ASSIGN(EndRecord end, ParseEnd(source, tail));
  const bool has_end64 = HasEnd64(source, tail);
  if (has_end64) {
    RESHARD_ASSIGN(end, ParseEnd64(source, tail, end));
  }

  const uint64_t end_records = size - (has_end64 ? kTailSize : kEndSize);
  if (!InRange(end.directory_offset, end.directory_size, end_records) ||
      end.directory_offset + end.directory_size != end_records)
    return Damaged(source, end_records,
                   fmt::format("the zip directory is said to be {} bytes at byte {} of the archive",
                               end.directory_size, end.directory_offset),
                   fmt::format("a directory that ends at byte {} of the archive", end_records),
                   "the file is truncated or was changed: copy it again from where it was written");
  if (end.directory_size > kMaxDirectorySize || end.entries > kMaxEntries ||
      end.entries > end.directory_size / kCentralHeaderSize)
    return Damaged(
        source, end.directory_offset,
        fmt::format("a zip directory of {} bytes for {} entries", end.directory_size, end.entries),
        fmt::format("at least {} bytes an entry, at most {} entries and {} bytes",
                    kCentralHeaderSize, kMaxEntries, kMaxDirectorySize));
  return end;
}

}  // namespace reshard::zip
