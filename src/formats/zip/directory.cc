#include "formats/zip/directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "base/checked_math.h"
#include "base/endian.h"
#include "base/try.h"
#include "formats/zip/end_record.h"
#include "formats/zip/records.h"

namespace reshard::zip {
namespace {

constexpr std::string_view kRepack =
    "write the checkpoint again with torch.save, or repack it: unzip, then zip -0";

// Takes the 64-bit numbers that stand in a zip64 extra field for the saturated ones of a header.
class Zip64Numbers {
 public:
  explicit Zip64Numbers(std::string_view extra) {
    while (extra.size() >= 4) {
      const auto id = LoadLittle<uint16_t>(extra.data());
      const auto length = LoadLittle<uint16_t>(extra.data() + 2);
      if (length > extra.size() - 4) return;
      if (id == kExtraZip64) {
        numbers_ = extra.substr(4, length);
        return;
      }
      extra.remove_prefix(4 + length);
    }
  }

  /// Replaces `value` if it is saturated; false where no number is left for it.
  bool Widen(uint64_t* value) {
    if (*value != kSaturated32) return true;
    if (numbers_.size() < 8) return false;
    *value = LoadLittle<uint64_t>(numbers_.data());
    numbers_.remove_prefix(8);
    return true;
  }

 private:
  std::string_view numbers_;
};

// Walks the central directory.
class CentralReader {
 public:
  CentralReader(const ByteSource& source, std::string_view raw, uint64_t offset)
      : source_(source), raw_(raw), offset_(offset) {}

  Result<Member> Next() {
    const uint64_t left = raw_.size() - position_;
    const char* head = raw_.data() + position_;
    if (left < kCentralHeaderSize || LoadLittle<uint32_t>(head) != kCentralHeaderSignature)
      return Fail("no entry of the zip directory", "the signature PK\\1\\2");
    const uint64_t name_length = LoadLittle<uint16_t>(head + 28);
    const uint64_t extra_length = LoadLittle<uint16_t>(head + 30);
    const uint64_t comment_length = LoadLittle<uint16_t>(head + 32);
    const uint64_t length = kCentralHeaderSize + name_length + extra_length + comment_length;
    if (length > left)
      return Fail(fmt::format("an entry of {} bytes in the zip directory", length),
                  fmt::format("at most the {} bytes that are left of it", left));
    Member member{.name = {head + kCentralHeaderSize, name_length},
                  .header_offset = LoadLittle<uint32_t>(head + 42),
                  .size = LoadLittle<uint32_t>(head + 24),
                  .crc = LoadLittle<uint32_t>(head + 16)};
    uint64_t stored_size = LoadLittle<uint32_t>(head + 20);
    Zip64Numbers wide({head + kCentralHeaderSize + name_length, extra_length});
    if (!wide.Widen(&member.size) || !wide.Widen(&stored_size) ||
        !wide.Widen(&member.header_offset))
      return Fail(fmt::format("no 64-bit numbers for the member '{}'", member.name),
                  "a zip64 extra field");
    RESHARD_TRY(CheckPlain(head, member, stored_size));
    position_ += length;
    return member;
  }

  bool done() const { return position_ == raw_.size(); }

 private:
  Result<> CheckPlain(const char* head, const Member& member, uint64_t stored_size) const {
    const auto flags = LoadLittle<uint16_t>(head + 8);
    const auto method = LoadLittle<uint16_t>(head + 10);
    if (method != kStored)
      return Fail(fmt::format("the member '{}' is compressed ({})", member.name,
                              method == 8 ? "DEFLATE" : fmt::format("method {}", method)),
                  "stored members, as torch.save writes them", std::string(kRepack));
    if (flags & kFlagEncrypted)
      return Fail(fmt::format("the member '{}' is encrypted", member.name), "a readable member");
    if (member.size != stored_size)
      return Fail(fmt::format("the member '{}' has {} bytes stored for {}", member.name,
                              stored_size, member.size),
                  "as many bytes stored as it has");
    return {};
  }

  std::unexpected<Error> Fail(std::string found, std::string expected,
                              std::string help = {}) const {
    return Damaged(source_, offset_ + position_, std::move(found), std::move(expected),
                   std::move(help));
  }

  const ByteSource& source_;
  std::string_view raw_;
  uint64_t offset_;
  uint64_t position_ = 0;
};

// Finds the member's data, which must end before `limit`. `scratch` spares an allocation a member.
Result<> ReadLocalHeader(const ByteSource& source, uint64_t limit, std::vector<char>* scratch,
                         Member* member) {
  const uint64_t length = kLocalHeaderSize + member->name.size();
  if (!InRange(member->header_offset, length, limit))
    return Damaged(source, member->header_offset,
                   fmt::format("the member '{}' is said to start at byte {} of the archive",
                               member->name, member->header_offset),
                   fmt::format("a place before its directory at byte {}", limit));
  scratch->resize(length);
  RESHARD_TRY(source.ReadAt(member->header_offset, std::as_writable_bytes(std::span(*scratch))));
  const char* head = scratch->data();
  const std::string_view name(head + kLocalHeaderSize, member->name.size());
  if (LoadLittle<uint32_t>(head) != kLocalHeaderSignature ||
      LoadLittle<uint16_t>(head + 8) != kStored ||
      LoadLittle<uint16_t>(head + 26) != member->name.size() || name != member->name)
    return Damaged(source, member->header_offset,
                   fmt::format("no header of the member '{}'", member->name),
                   "the header that the zip directory says is here");
  member->data_offset = member->header_offset + length + LoadLittle<uint16_t>(head + 28);
  if (!InRange(member->data_offset, member->size, limit))
    return Damaged(
        source, member->data_offset,
        fmt::format("the member '{}' is said to have {} bytes", member->name, member->size),
        fmt::format("an end before the zip directory at byte {} of the archive", limit));
  return {};
}

Result<> CheckOverlap(const ByteSource& source, std::span<const Member> members) {
  std::vector<uint32_t> order(members.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::sort(order, {}, [&](uint32_t i) { return members[i].header_offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    const Member& before = members[order[i - 1]];
    const Member& member = members[order[i]];
    if (before.data_offset + before.size > member.header_offset)
      return Damaged(source, member.header_offset,
                     fmt::format("the members '{}' and '{}' overlap", before.name, member.name),
                     "each byte in one member");
  }
  return {};
}

}  // namespace

const Member* Directory::Find(std::string_view name) const {
  const auto name_of = [this](uint32_t i) { return members_[i].name; };
  const auto found = std::ranges::lower_bound(by_name_, name, {}, name_of);
  return found != by_name_.end() && name_of(*found) == name ? &members_[*found] : nullptr;
}

Result<Directory> ReadDirectory(const ByteSource& source) {
  RESHARD_ASSIGN(const EndRecord end, ReadEndRecord(source));
  Directory directory;
  directory.raw_.resize(end.directory_size);
  RESHARD_TRY(
      source.ReadAt(end.directory_offset, std::as_writable_bytes(std::span(directory.raw_))));

  std::vector<Member>& members = directory.members_;
  members.reserve(end.entries);
  CentralReader reader(source, {directory.raw_.data(), directory.raw_.size()},
                       end.directory_offset);
  std::vector<char> scratch;
  for (uint64_t i = 0; i < end.entries; ++i) {
    RESHARD_ASSIGN(Member member, reader.Next());
    RESHARD_TRY(ReadLocalHeader(source, end.directory_offset, &scratch, &member));
    members.push_back(member);
  }
  if (!reader.done())
    return Damaged(source, end.directory_offset, "bytes after the last entry of the zip directory",
                   fmt::format("{} entries and nothing else", end.entries));
  RESHARD_TRY(CheckOverlap(source, members));

  directory.by_name_.resize(members.size());
  std::iota(directory.by_name_.begin(), directory.by_name_.end(), 0u);
  const auto name_of = [&](uint32_t i) { return members[i].name; };
  std::ranges::sort(directory.by_name_, {}, name_of);
  const auto twice = std::ranges::adjacent_find(directory.by_name_, {}, name_of);
  if (twice != directory.by_name_.end())
    return Damaged(source, members[*twice].header_offset,
                   fmt::format("two members are named '{}'", name_of(*twice)), "distinct names");
  return directory;
}

}  // namespace reshard::zip
