#include "io/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "io/io_test_support.h"

namespace reshard {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

class FileTest : public testing::Test {
 protected:
  fs::path At(const char* name) const { return directory_.path() / name; }
  TestDirectory directory_;
};

TEST_F(FileTest, ReadsAnyPart) {
  PutBytes(At("f"), "0123456789");
  const auto file = InputFile::Open(At("f"));
  ASSERT_TRUE(file);
  EXPECT_EQ((*file)->size(), 10u);
  EXPECT_EQ((*file)->name(), At("f"));
  std::string part(4, '.');
  ASSERT_TRUE((*file)->ReadAt(6, std::as_writable_bytes(std::span(part))));
  EXPECT_EQ(part, "6789");
  EXPECT_TRUE((*file)->ReadAt(10, {}));
}

TEST_F(FileTest, RefusesBytesPastTheEnd) {
  PutBytes(At("f"), "0123456789");
  const auto file = InputFile::Open(At("f"));
  std::string part(4, '.');
  for (const uint64_t offset : {uint64_t{7}, uint64_t{11}, UINT64_MAX, UINT64_MAX - 3}) {
    const auto read = (*file)->ReadAt(offset, std::as_writable_bytes(std::span(part)));
    ASSERT_FALSE(read) << offset;
    EXPECT_EQ(read.error().kind, ErrorKind::kSource);
    EXPECT_EQ(read.error().offset, offset);
    EXPECT_EQ(part, "....");
  }
}

// A file that shrinks while it is open is an error, never a signal or old bytes.
TEST_F(FileTest, AFileThatShrinksIsAnError) {
  PutBytes(At("f"), "0123456789");
  const auto file = InputFile::Open(At("f"));
  fs::resize_file(At("f"), 5);
  std::string part(4, '.');
  const auto read = (*file)->ReadAt(3, std::as_writable_bytes(std::span(part)));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().offset, 5u);
  EXPECT_EQ(read.error().file, At("f"));
}

TEST_F(FileTest, OpensRegularFilesOnly) {
  for (const fs::path& path : {directory_.path(), fs::path("/dev/null"), At("none")}) {
    const auto file = InputFile::Open(path);
    ASSERT_FALSE(file) << path;
    EXPECT_EQ(file.error().kind, ErrorKind::kSource);
    EXPECT_EQ(file.error().file, path);
  }
}

TEST_F(FileTest, WritesInAnyOrder) {
  PutBytes(At("f"), "what was there before and is longer");
  const auto file = OutputFile::Create(At("f"));
  ASSERT_TRUE(file);
  ASSERT_TRUE((*file)->WriteAt(4, Bytes("world")));
  ASSERT_TRUE((*file)->WriteAt(0, Bytes("new ")));
  std::string part(3, '.');
  ASSERT_TRUE((*file)->ReadAt(2, std::as_writable_bytes(std::span(part))));
  EXPECT_EQ(part, "w w");
  (*file)->StartWriteback(0, 9);
  ASSERT_TRUE((*file)->SyncAndClose());
  EXPECT_EQ(BytesOf(At("f")), "new world");
}

TEST_F(FileTest, WriteErrorsAreTheDestinations) {
  const auto full = std::make_unique<OutputFile>(::open("/dev/full", O_WRONLY), "/dev/full");
  const auto written = full->WriteAt(0, Bytes("x"));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kDestination);
  EXPECT_THAT(written.error().help, testing::HasSubstr("free some space"));

  const auto none = OutputFile::Create(At("none") / "f");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().kind, ErrorKind::kDestination);

  std::string part(1, '.');
  const auto file = OutputFile::Create(At("f"));
  const auto read = (*file)->ReadAt(0, std::as_writable_bytes(std::span(part)));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kDestination);
}

// What has another name elsewhere is not written to under this one.
TEST_F(FileTest, CreateLeavesWhatALinkLeadsTo) {
  PutBytes(At("victim"), "precious");
  fs::create_symlink("victim", At("soft"));
  fs::create_hard_link(At("victim"), At("hard"));
  for (const char* name : {"soft", "hard"}) {
    ASSERT_TRUE(WriteTextFile(At(name), "new"));
    EXPECT_EQ(BytesOf(At(name)), "new");
    EXPECT_EQ(BytesOf(At("victim")), "precious") << name;
    EXPECT_FALSE(fs::is_symlink(At(name)));
  }
  ASSERT_TRUE(ReplaceTextFile(At("victim"), "replaced"));
  EXPECT_EQ(BytesOf(At("victim")), "replaced");

  fs::create_directory(At("folder"));
  ASSERT_EQ(::mkfifo(At("fifo").c_str(), 0600), 0);
  for (const char* name : {"folder", "fifo"}) {
    const auto file = OutputFile::Create(At(name));
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().kind, ErrorKind::kDestination);
    EXPECT_TRUE(fs::exists(At(name)));
  }
  fs::create_symlink("victim", At("soft2"));
  for (const char* name : {"soft2", "fifo", "none"})
    EXPECT_FALSE(OutputFile::OpenExisting(At(name))) << name;
}

TEST_F(FileTest, AFifoIsRefusedAtOnce) {
  ASSERT_EQ(::mkfifo(At("fifo").c_str(), 0600), 0);
  const auto file = InputFile::Open(At("fifo"));
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().found, testing::HasSubstr("regular file"));
}

TEST_F(FileTest, AFileThatHasChanged) {
  PutBytes(At("f"), "12345");
  const auto before = StatFile(directory_.path(), "f");
  ASSERT_TRUE(before);
  EXPECT_TRUE(CheckUnchanged(directory_.path(), *before));
  PutBytes(At("f"), "1234");
  EXPECT_FALSE(CheckUnchanged(directory_.path(), *before));
  fs::remove(At("f"));
  const auto gone = CheckUnchanged(directory_.path(), *before);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().kind, ErrorKind::kSource);
  EXPECT_EQ(gone.error().file, At("f"));
}

TEST_F(FileTest, StatIsThatOfTheSystem) {
  PutBytes(At("f"), "12345");
  struct stat info;
  ASSERT_EQ(::stat(At("f").c_str(), &info), 0);
  const auto file = StatFile(directory_.path(), "f");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->path, "f");
  EXPECT_EQ(file->size, 5u);
  EXPECT_EQ(file->inode, info.st_ino);
  EXPECT_EQ(file->mtime_ns / 1'000'000'000, info.st_mtim.tv_sec);
  EXPECT_EQ(file->mtime_ns % 1'000'000'000, info.st_mtim.tv_nsec);
  EXPECT_FALSE(StatFile(directory_.path(), "none"));
  EXPECT_FALSE(StatFile(directory_.path(), "."));
}

TEST_F(FileTest, TextFiles) {
  ASSERT_TRUE(WriteTextFile(At("f"), std::string_view("a\0b\n", 4)));
  const auto text = ReadTextFile(At("f"), 4);
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, std::string("a\0b\n", 4));
  const auto too_large = ReadTextFile(At("f"), 3);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().kind, ErrorKind::kSource);
  ASSERT_TRUE(WriteTextFile(At("empty"), ""));
  EXPECT_EQ(ReadTextFile(At("empty"), 0).value(), "");
}

TEST_F(FileTest, Directories) {
  EXPECT_TRUE(SyncDirectory(directory_.path()));
  EXPECT_FALSE(SyncDirectory(At("none")));
}

TEST(SystemErrorTest, SaysWhatToDo) {
  const Error files = SystemError(ErrorKind::kSource, "f", "open", EMFILE);
  EXPECT_THAT(files.help, testing::HasSubstr("ulimit -n"));
  EXPECT_THAT(files.found, testing::StartsWith("cannot open: "));
  EXPECT_THAT(SystemError(ErrorKind::kDestination, "f", "write", EDQUOT).help,
              testing::HasSubstr("free"));
}

}  // namespace
}  // namespace reshard
