#include "formats/zip/archive_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/endian.h"
#include "formats/zip/checksum.h"
#include "formats/zip/records.h"

namespace reshard::zip {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kExtraHeaderSize = 4;  // id and length
constexpr uint16_t kEnd64MadeBy = 798;    // miniz writes UNIX, version 3.0 here
constexpr uint16_t kEnd64Needs = 45;      // the version of zip that brought zip64

bool IsWide(uint64_t number) { return number >= kSaturated32; }

uint32_t Saturate32(uint64_t number) {
  return static_cast<uint32_t>(std::min<uint64_t>(number, kSaturated32));
}

uint16_t Saturate16(uint64_t number) {
  return static_cast<uint16_t>(std::min<uint64_t>(number, kSaturated16));
}

// PyTorch gives empty members no descriptor.
uint16_t Flags(uint64_t size) {
  return size == 0 ? kFlagUtf8 : static_cast<uint16_t>(kFlagUtf8 | kFlagDescriptor);
}

}  // namespace

void ArchiveLayout::AddLiteral(std::string_view name, std::string_view bytes) {
  members_.push_back({.name = fmt::format("{}/{}", prefix_, name),
                      .header_offset = position(),
                      .size = bytes.size(),
                      .crc = Crc32(bytes)});
  AppendLocalHeader(members_.back());
  text_ += bytes;
  AppendDescriptor(members_.back());
}

void ArchiveLayout::AddSlot(std::string_view name, uint64_t size) {
  members_.push_back({.name = fmt::format("{}/{}", prefix_, name),
                      .header_offset = position(),
                      .size = size,
                      .is_late = size != 0});
  AppendLocalHeader(members_.back());
  layout_.slots.push_back(position());
  if (size == 0) return;
  layout_.late_crcs.push_back({.begin = position(), .end = position() + size, .targets = {}});
  FlushText();
  text_offset_ += size;
  layout_.late_crcs.back().targets.push_back(position() + 4);
  AppendDescriptor(members_.back());
}

FileLayout ArchiveLayout::Finish() && {
  const uint64_t directory_offset = position();
  auto late = layout_.late_crcs.begin();
  for (const Member& member : members_) {
    if (member.is_late) (late++)->targets.push_back(position() + 16);
    AppendCentralHeader(member);
  }
  AppendEndRecords(directory_offset);
  FlushText();
  layout_.size = text_offset_;
  layout_.literals.shrink_to_fit();
  layout_.late_crcs.shrink_to_fit();
  return std::move(layout_);
}

void ArchiveLayout::AppendLocalHeader(const Member& member) {
  const bool wide_size = IsWide(member.size);
  const bool wide_offset = IsWide(member.header_offset);
  const uint64_t numbers = 16u * wide_size + 8u * wide_offset;
  const uint64_t zip64 = numbers == 0 ? 0 : kExtraHeaderSize + numbers;
  const uint64_t unpadded =
      member.header_offset + kLocalHeaderSize + member.name.size() + zip64 + kExtraHeaderSize;
  const uint64_t padding = -unpadded % kAlignment;

  AppendLittle(kLocalHeaderSignature, &text_);
  AppendLittle(uint16_t{0}, &text_);  // version needed
  AppendLittle(Flags(member.size), &text_);
  AppendLittle(kStored, &text_);
  text_.append(4 + 12, '\0');  // time and date; CRC and both sizes: see the descriptor
  AppendLittle(static_cast<uint16_t>(member.name.size()), &text_);
  AppendLittle(static_cast<uint16_t>(zip64 + kExtraHeaderSize + padding), &text_);
  text_ += member.name;
  if (numbers != 0) {
    AppendLittle(kExtraZip64, &text_);
    AppendLittle(static_cast<uint16_t>(numbers), &text_);
    // Neither the zero nor the offset belongs here by the zip standard; PyTorch writes them.
    if (wide_size) AppendLittle(member.size, &text_);
    if (wide_size) AppendLittle(uint64_t{0}, &text_);
    if (wide_offset) AppendLittle(member.header_offset, &text_);
  }
  text_ += "FB";
  AppendLittle(static_cast<uint16_t>(padding), &text_);
  text_.append(padding, 'Z');
}

void ArchiveLayout::AppendDescriptor(const Member& member) {
  if (member.size == 0) return;
  AppendLittle(kDescriptorSignature, &text_);
  AppendLittle(member.crc, &text_);
  if (IsWide(member.size) || IsWide(member.header_offset)) {
    AppendLittle(member.size, &text_);
    AppendLittle(member.size, &text_);
  } else {
    AppendLittle(static_cast<uint32_t>(member.size), &text_);
    AppendLittle(static_cast<uint32_t>(member.size), &text_);
  }
}

void ArchiveLayout::AppendCentralHeader(const Member& member) {
  const bool wide_size = IsWide(member.size);
  const bool wide_offset = IsWide(member.header_offset);
  const uint64_t numbers = 16u * wide_size + 8u * wide_offset;
  AppendLittle(kCentralHeaderSignature, &text_);
  text_.append(4, '\0');  // versions
  AppendLittle(Flags(member.size), &text_);
  AppendLittle(kStored, &text_);
  text_.append(4, '\0');  // time and date
  AppendLittle(member.crc, &text_);
  AppendLittle(Saturate32(member.size), &text_);
  AppendLittle(Saturate32(member.size), &text_);
  AppendLittle(static_cast<uint16_t>(member.name.size()), &text_);
  AppendLittle(static_cast<uint16_t>(numbers == 0 ? 0 : kExtraHeaderSize + numbers), &text_);
  text_.append(10, '\0');  // comment length, disk, attributes
  AppendLittle(Saturate32(member.header_offset), &text_);
  text_ += member.name;
  if (numbers == 0) return;
  AppendLittle(kExtraZip64, &text_);
  AppendLittle(static_cast<uint16_t>(numbers), &text_);
  if (wide_size) AppendLittle(member.size, &text_);
  if (wide_size) AppendLittle(member.size, &text_);
  if (wide_offset) AppendLittle(member.header_offset, &text_);
}

void ArchiveLayout::AppendEndRecords(uint64_t directory_offset) {
  const uint64_t end64 = position();
  const uint64_t directory_size = end64 - directory_offset;
  const uint64_t entries = members_.size();
  AppendLittle(kEnd64Signature, &text_);
  AppendLittle(kEnd64Size - 12, &text_);
  AppendLittle(kEnd64MadeBy, &text_);
  AppendLittle(kEnd64Needs, &text_);
  text_.append(8, '\0');  // disks
  AppendLittle(entries, &text_);
  AppendLittle(entries, &text_);
  AppendLittle(directory_size, &text_);
  AppendLittle(directory_offset, &text_);

  AppendLittle(kLocator64Signature, &text_);
  AppendLittle(uint32_t{0}, &text_);  // disk
  AppendLittle(end64, &text_);
  AppendLittle(uint32_t{1}, &text_);  // number of disks

  AppendLittle(kEndSignature, &text_);
  text_.append(4, '\0');  // disks
  AppendLittle(Saturate16(entries), &text_);
  AppendLittle(Saturate16(entries), &text_);
  AppendLittle(Saturate32(directory_size), &text_);
  AppendLittle(Saturate32(directory_offset), &text_);
  AppendLittle(uint16_t{0}, &text_);  // comment
}

void ArchiveLayout::FlushText() {
  const uint64_t next = position();
  // A copy has no room to spare: plans hold a literal for each tensor.
  if (!text_.empty()) layout_.literals.push_back({text_offset_, std::string(text_)});
  text_.clear();
  text_offset_ = next;
}

}  // namespace reshard::zip
