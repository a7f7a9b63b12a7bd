#include "formats/zip/archive_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/byte_source.h"
#include "base/endian.h"
#include "formats/zip/directory.h"
#include "formats/zip/records.h"

namespace reshard::zip {
namespace {

using ::testing::HasSubstr;

// A file that holds a layout's literals, and zeros elsewhere.
class SparseSource final : public ByteSource {
 public:
  explicit SparseSource(const FileLayout& layout) : layout_(layout) {}
  uint64_t size() const override { return layout_.size; }
  const std::string& name() const override { return name_; }

  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    std::ranges::fill(out, std::byte{0});
    const uint64_t end = offset + out.size();
    for (const Literal& literal : layout_.literals) {
      const uint64_t from = std::max(offset, literal.offset);
      const uint64_t to = std::min(end, literal.offset + literal.bytes.size());
      if (from >= to) continue;
      std::memcpy(out.data() + (from - offset), literal.bytes.data() + (from - literal.offset),
                  to - from);
    }
    return {};
  }

 private:
  const FileLayout& layout_;
  std::string name_ = "sparse";
};

// Literals and non-empty slots must follow each other without a hole.
void ExpectTiles(const FileLayout& layout) {
  uint64_t position = 0;
  auto late = layout.late_crcs.begin();
  for (const Literal& literal : layout.literals) {
    if (late != layout.late_crcs.end() && late->begin == position) position = (late++)->end;
    EXPECT_EQ(literal.offset, position);
    EXPECT_FALSE(literal.bytes.empty());
    position += literal.bytes.size();
  }
  EXPECT_EQ(late, layout.late_crcs.end());
  EXPECT_EQ(position, layout.size);
}

TEST(ArchiveLayoutTest, EmptyArchive) {
  const FileLayout layout = ArchiveLayout("p").Finish();
  EXPECT_EQ(layout.size, kEnd64Size + kLocator64Size + kEndSize);
  const auto directory = ReadDirectory(SparseSource(layout));
  ASSERT_TRUE(directory) << directory.error().ToString();
  EXPECT_TRUE(directory->members().empty());
}

TEST(ArchiveLayoutTest, PlacesSlotsAt64Bytes) {
  ArchiveLayout archive("prefix");
  archive.AddLiteral("one", "text");
  archive.AddSlot("two", 100);
  archive.AddSlot("none", 0);
  archive.AddSlot("three", 1);
  const FileLayout layout = std::move(archive).Finish();
  ExpectTiles(layout);
  ASSERT_EQ(layout.slots.size(), 3u);
  ASSERT_EQ(layout.late_crcs.size(), 2u);

  const auto directory = ReadDirectory(SparseSource(layout));
  ASSERT_TRUE(directory) << directory.error().ToString();
  size_t slot = 0;
  for (const char* name : {"prefix/two", "prefix/none", "prefix/three"}) {
    const Member* member = directory->Find(name);
    ASSERT_NE(member, nullptr) << name;
    EXPECT_EQ(member->data_offset, layout.slots[slot++]) << name;
    EXPECT_EQ(member->data_offset % 64, 0u) << name;
  }
  EXPECT_EQ(directory->Find("prefix/two")->size, 100u);
  EXPECT_EQ(directory->Find("prefix/one")->crc, 0x3b8ba7c7u);  // zlib.crc32(b"text")
}

TEST(ArchiveLayoutTest, LateCrcsReachTheDirectoryAndTheDescriptor) {
  ArchiveLayout archive("p");
  archive.AddSlot("a", 8);
  archive.AddSlot("b", 9);
  FileLayout layout = std::move(archive).Finish();
  for (uint32_t i = 0; i < 2; ++i) {
    for (const uint64_t at : layout.late_crcs[i].targets) {
      for (Literal& literal : layout.literals)
        if (at >= literal.offset && at + 4 <= literal.offset + literal.bytes.size())
          StoreLittle(0xabcd0000 + i, literal.bytes.data() + (at - literal.offset));
    }
  }
  const SparseSource source(layout);
  const auto directory = ReadDirectory(source);
  ASSERT_TRUE(directory);
  for (uint32_t i = 0; i < 2; ++i) {
    const Member& member = directory->members()[i];
    EXPECT_EQ(member.crc, 0xabcd0000 + i);
    std::array<std::byte, 16> descriptor;
    ASSERT_TRUE(source.ReadAt(member.data_offset + member.size, descriptor));
    EXPECT_EQ(LoadLittle<uint32_t>(descriptor.data()), kDescriptorSignature);
    EXPECT_EQ(LoadLittle<uint32_t>(descriptor.data() + 4), 0xabcd0000 + i);
    EXPECT_EQ(LoadLittle<uint32_t>(descriptor.data() + 12), member.size);
  }
}

TEST(ArchiveLayoutTest, GoesToZip64) {
  constexpr uint64_t kHuge = (uint64_t{1} << 32) + 5;
  ArchiveLayout archive("p");
  archive.AddSlot("small", 3);
  archive.AddSlot("huge", kHuge);
  archive.AddSlot("behind", 3);
  archive.AddLiteral("last", "text");
  const FileLayout layout = std::move(archive).Finish();
  ExpectTiles(layout);
  const SparseSource source(layout);
  const auto directory = ReadDirectory(source);
  ASSERT_TRUE(directory) << directory.error().ToString();
  EXPECT_EQ(directory->Find("p/huge")->size, kHuge);
  EXPECT_GT(directory->Find("p/behind")->header_offset, kHuge);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(directory->members()[i].data_offset, layout.slots[i]);
    EXPECT_EQ(layout.slots[i] % 64, 0u);
  }
  // Sizes are of 64 bits in the descriptors of a huge member, and of a small one behind it.
  for (const char* name : {"p/huge", "p/behind"}) {
    const Member& member = *directory->Find(name);
    std::array<std::byte, 24> descriptor;
    ASSERT_TRUE(source.ReadAt(member.data_offset + member.size, descriptor));
    EXPECT_EQ(LoadLittle<uint32_t>(descriptor.data()), kDescriptorSignature);
    EXPECT_EQ(LoadLittle<uint64_t>(descriptor.data() + 16), member.size) << name;
  }
}

TEST(ArchiveLayoutTest, CountsMoreThan65535Members) {
  ArchiveLayout archive("p");
  for (int i = 0; i < 70000; ++i) archive.AddLiteral(std::to_string(i), "");
  const FileLayout layout = std::move(archive).Finish();
  const auto directory = ReadDirectory(SparseSource(layout));
  ASSERT_TRUE(directory) << directory.error().ToString();
  EXPECT_EQ(directory->members().size(), 70000u);
}

}  // namespace
}  // namespace reshard::zip
