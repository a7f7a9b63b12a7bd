#include "formats/zip/directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <limits>
#include <string>

#include "base/endian.h"
#include "formats/zip/checksum.h"
#include "formats/zip/end_record.h"
#include "formats/zip/records.h"

namespace reshard::zip {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Archives by CPython's zipfile: tests/data/zip/make.py.
std::string Archive(const std::string& name) {
  std::ifstream file(RESHARD_TEST_DATA "/zip/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string Text(const ByteSource& source, const Member& member) {
  std::string text(member.size, '\0');
  EXPECT_TRUE(source.ReadAt(member.data_offset, std::as_writable_bytes(std::span(text))));
  return text;
}

Error ReadError(const std::string& bytes) {
  const MemorySource source(bytes, "x.zip");
  const auto directory = ReadDirectory(source);
  EXPECT_FALSE(directory);
  if (directory) return {};
  EXPECT_EQ(directory.error().kind, ErrorKind::kSource);
  EXPECT_EQ(directory.error().file, "x.zip");
  EXPECT_NE(directory.error().found, "");
  return directory.error();
}

size_t CentralHeader(const std::string& bytes, int index) {
  size_t at = bytes.find("PK\1\2");
  while (index-- > 0) at = bytes.find("PK\1\2", at + 1);
  EXPECT_NE(at, std::string::npos);
  return at;
}

template <typename T>
std::string Patched(std::string bytes, size_t at, T number) {
  StoreLittle(number, bytes.data() + at);
  return bytes;
}

class ReadableTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ReadableTest, ListsMembers) {
  const std::string bytes = Archive(GetParam());
  const MemorySource source(bytes);
  const auto directory = ReadDirectory(source);
  ASSERT_TRUE(directory) << directory.error().ToString();
  ASSERT_EQ(directory->members().size(), 3u);
  EXPECT_EQ(directory->members()[0].name, "a/first");
  EXPECT_EQ(Text(source, directory->members()[0]), "a/firsta/firsta/first");
  const Member* second = directory->Find("a/second");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(Text(source, *second), "a/seconda/seconda/second");
  EXPECT_EQ(second->crc, Crc32("a/seconda/seconda/second"));
  EXPECT_TRUE(CheckCrc(source, *second));
  EXPECT_EQ(directory->Find("a/empty")->size, 0u);
  EXPECT_EQ(directory->Find("a/secon"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Archives, ReadableTest,
                         ::testing::Values("stored.zip", "zip64_headers.zip"));

TEST(DirectoryTest, OffsetsAreRelativeToTheSource) {
  const std::string bytes = "0123456789" + Archive("stored.zip") + "tail";
  const MemorySource file(bytes, "f");
  const SubSource entry(file, 10, bytes.size() - 14);
  const auto directory = ReadDirectory(entry);
  ASSERT_TRUE(directory) << directory.error().ToString();
  EXPECT_EQ(Text(entry, directory->members()[0]), "a/firsta/firsta/first");
  EXPECT_EQ(directory->members()[0].header_offset, 0u);

  const SubSource cut(file, 10, 40);
  const auto error = ReadDirectory(cut);
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().offset, 10u + 40 - kEndSize);  // as the file counts
}

TEST(DirectoryTest, FindsAFlippedBitByCrc) {
  std::string bytes = Archive("stored.zip");
  bytes[kLocalHeaderSize + std::string_view("a/first").size() + 3] ^= 1;
  const MemorySource source(bytes);
  const auto directory = ReadDirectory(source);
  ASSERT_TRUE(directory);
  EXPECT_FALSE(CheckCrc(source, *directory->Find("a/first")));
  EXPECT_TRUE(CheckCrc(source, *directory->Find("a/second")));
}

TEST(DirectoryTest, EveryTruncationIsAnError) {
  const std::string bytes = Archive("stored.zip");
  for (size_t size = 0; size < bytes.size(); ++size) ReadError(bytes.substr(0, size));
}

TEST(DirectoryTest, AFlippedByteDoesNoHarm) {
  for (const char* name : {"stored.zip", "zip64_headers.zip"}) {
    const std::string bytes = Archive(name);
    for (size_t i = 0; i < bytes.size(); ++i) {
      for (const int mask : {0x01, 0x80, 0xff}) {
        std::string changed = bytes;
        changed[i] = static_cast<char>(changed[i] ^ mask);
        const MemorySource source(changed);
        const auto directory = ReadDirectory(source);
        if (!directory) {
          EXPECT_EQ(directory.error().kind, ErrorKind::kSource);
          continue;
        }
        for (const Member& member : directory->members()) Text(source, member);
      }
    }
  }
}

TEST(DirectoryTest, RefusesCompressedMembers) {
  const Error error = ReadError(Archive("deflated.zip"));
  EXPECT_THAT(error.found, HasSubstr("'a/first' is compressed (DEFLATE)"));
  EXPECT_THAT(error.help, HasSubstr("zip -0"));
}

TEST(DirectoryTest, RefusesACommentAndDuplicates) {
  EXPECT_THAT(ReadError(Archive("comment.zip")).found, HasSubstr("no zip end record"));
  EXPECT_THAT(ReadError(Archive("twice.zip")).found, HasSubstr("named 'a/first'"));
}

TEST(DirectoryTest, RefusesOverlap) {
  const std::string bytes = Archive("stored.zip");
  const size_t header = CentralHeader(bytes, 0);
  const std::string larger =
      Patched<uint32_t>(Patched<uint32_t>(bytes, header + 20, 30), header + 24, 30);
  EXPECT_THAT(ReadError(larger).found, HasSubstr("'a/first' and 'a/second' overlap"));
}

TEST(DirectoryTest, RefusesALocalNameThatDiffers) {
  std::string bytes = Archive("stored.zip");
  bytes[kLocalHeaderSize] = 'b';
  EXPECT_THAT(ReadError(bytes).found, HasSubstr("no header of the member 'a/first'"));
}

TEST(DirectoryTest, RefusesMembersBeyondTheDirectory) {
  const std::string bytes = Archive("stored.zip");
  const size_t header = CentralHeader(bytes, 1);
  EXPECT_THAT(ReadError(Patched<uint32_t>(bytes, header + 42, 0x7fffffff)).found,
              HasSubstr("'a/second' is said to start at"));
  const std::string larger =
      Patched<uint32_t>(Patched<uint32_t>(bytes, header + 20, 0xfffffffe), header + 24, 0xfffffffe);
  EXPECT_THAT(ReadError(larger).found, HasSubstr("'a/second' is said to have"));
}

TEST(DirectoryTest, RefusesSaturatedNumbersWithoutZip64) {
  const std::string bytes = Archive("stored.zip");
  const size_t header = CentralHeader(bytes, 0);
  EXPECT_THAT(ReadError(Patched<uint32_t>(bytes, header + 24, kSaturated32)).found,
              HasSubstr("no 64-bit numbers"));
}

TEST(DirectoryTest, RefusesCountsThatDoNotFit) {
  const std::string bytes = Archive("stored.zip");
  const size_t end = bytes.size() - kEndSize;
  const auto with_entries = [&](uint16_t count) {
    return Patched<uint16_t>(Patched<uint16_t>(bytes, end + 8, count), end + 10, count);
  };
  EXPECT_THAT(ReadError(with_entries(2)).found, HasSubstr("bytes after the last entry"));
  EXPECT_THAT(ReadError(with_entries(60000)).found, HasSubstr("for 60000 entries"));
  EXPECT_THAT(ReadError(Patched<uint32_t>(bytes, end + 12, 7)).found, HasSubstr("7 bytes at byte"));
  EXPECT_THAT(ReadError(Patched<uint32_t>(bytes, end + 16, 0xfffffff0)).expected,
              HasSubstr("a directory that ends at byte"));
}

// Zip64 end records appended by hand, as APPNOTE.TXT 4.3.14 and 4.3.15 have them.
std::string WithEnd64(uint64_t entries, uint64_t directory_size_delta = 0) {
  const std::string bytes = Archive("stored.zip");
  const size_t end = bytes.size() - kEndSize;
  const uint64_t directory = LoadLittle<uint32_t>(bytes.data() + end + 16);
  std::string out = bytes.substr(0, end) + "PK\6\6";
  AppendLittle(uint64_t{44}, &out);
  AppendLittle(uint32_t{45 | 45 << 16}, &out);
  AppendLittle(uint64_t{0}, &out);
  AppendLittle(entries, &out);
  AppendLittle(entries, &out);
  AppendLittle(end - directory + directory_size_delta, &out);
  AppendLittle(directory, &out);
  out += "PK\6\7";
  AppendLittle(uint32_t{0}, &out);
  AppendLittle(uint64_t{end}, &out);
  AppendLittle(uint32_t{1}, &out);
  std::string last = bytes.substr(end);
  for (const size_t at : {8, 10, 12, 14, 16, 18}) StoreLittle(kSaturated16, last.data() + at);
  return out + last;
}

TEST(EndRecordTest, ReadsZip64) {
  const std::string bytes = WithEnd64(3);
  const MemorySource source(bytes);
  const auto directory = ReadDirectory(source);
  ASSERT_TRUE(directory) << directory.error().ToString();
  EXPECT_EQ(directory->members().size(), 3u);
}

TEST(EndRecordTest, RefusesNumbersThatLie) {
  constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();
  EXPECT_THAT(ReadError(WithEnd64(kHuge)).found, HasSubstr("entries"));
  EXPECT_THAT(ReadError(WithEnd64(3, kHuge - 100)).found, HasSubstr("is said to be"));
  EXPECT_THAT(ReadError(WithEnd64(3, 1)).found, HasSubstr("is said to be"));
  const std::string bytes = WithEnd64(3);
  const size_t end = bytes.size() - kEndSize;
  EXPECT_THAT(ReadError(Patched<uint16_t>(Patched<uint16_t>(bytes, end + 8, 2), end + 10, 2)).found,
              HasSubstr("contradict"));
  EXPECT_THAT(ReadError(Patched<uint64_t>(bytes, end - 12, 5)).found,
              HasSubstr("no zip64 end record"));
}

}  // namespace
}  // namespace reshard::zip
