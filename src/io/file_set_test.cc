#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "io/file.h"
#include "io/io_test_support.h"

namespace reshard {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kFiles = 700;  // More than a set holds open.

size_t OpenDescriptors() {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

class FileSetTest : public testing::Test {
 protected:
  void SetUp() override {
    for (uint32_t i = 0; i < kFiles; ++i) {
      PutBytes(directory_.path() / std::to_string(i), std::to_string(i + 1000));
      ASSERT_EQ(set_.Add(*StatFile(directory_.path(), std::to_string(i))), i);
    }
  }

  std::string Read(uint32_t index) const {
    std::string text(4, '.');
    const auto read = set_.ReadAt(index, 0, std::as_writable_bytes(std::span(text)));
    return read ? text : read.error().ToString();
  }

  TestDirectory directory_;
  FileSet set_{directory_.path()};
};

TEST_F(FileSetTest, MoreFilesThanMayBeOpen) {
  EXPECT_EQ(set_.count(), kFiles);
  const size_t before = OpenDescriptors();
  for (int round = 0; round < 2; ++round)
    for (uint32_t i = 0; i < kFiles; ++i) ASSERT_EQ(Read(i), std::to_string(i + 1000));
  EXPECT_LE(OpenDescriptors() - before, 512u);
  EXPECT_GT(OpenDescriptors() - before, 1u) << "files that are read again stay open";
}

TEST_F(FileSetTest, AFileInUseOutlivesItsEviction) {
  const auto first = set_.Open(0);
  ASSERT_TRUE(first);
  for (uint32_t i = 1; i < kFiles; ++i) ASSERT_EQ(Read(i), std::to_string(i + 1000));
  fs::remove(directory_.path() / "0");
  std::string text(4, '.');
  EXPECT_TRUE((*first)->ReadAt(0, std::as_writable_bytes(std::span(text))));
  EXPECT_EQ(text, "1000");
  EXPECT_NE(Read(0), "1000") << "the set itself has let it go";
}

TEST_F(FileSetTest, FromSeveralThreads) {
  std::vector<std::jthread> threads;
  std::atomic<int> wrong = 0;
  for (uint32_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (uint32_t k = 0; k < 2 * kFiles; ++k) {
        const uint32_t i = (k * 37 + t * 101) % kFiles;
        wrong += Read(i) != std::to_string(i + 1000);
      }
    });
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

// With a lower limit than the set holds open, or one that is used up, others are closed.
TEST_F(FileSetTest, FewerDescriptorsThanFiles) {
  struct rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  struct rlimit few = before;
  few.rlim_cur = OpenDescriptors() + 20;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  std::vector<std::string> read;
  for (uint32_t i = 0; i < kFiles; ++i) read.push_back(Read(i));
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  for (uint32_t i = 0; i < kFiles; ++i) ASSERT_EQ(read[i], std::to_string(i + 1000));
}

TEST_F(FileSetTest, AFileThatHasChangedIsNotOpened) {
  const fs::path path = directory_.path() / "7";
  const auto refuse = [&](const std::string& why) {
    const auto file = set_.Open(7);
    ASSERT_FALSE(file) << why;
    EXPECT_EQ(file.error().kind, ErrorKind::kSource);
    EXPECT_EQ(file.error().file, path);
    EXPECT_THAT(file.error().found, testing::HasSubstr(why));
  };
  const auto time = fs::last_write_time(path);
  PutBytes(path, "12345");
  refuse("has 5 bytes, and had 4");
  PutBytes(path, "1234");
  fs::last_write_time(path, time + std::chrono::seconds(1));
  refuse("has been written to");
  fs::last_write_time(path, time);
  EXPECT_TRUE(set_.Open(7)) << "of the size, time and inode that were known";

  fs::copy_file(directory_.path() / "8", directory_.path() / "new");
  fs::last_write_time(directory_.path() / "new", fs::last_write_time(directory_.path() / "8"));
  fs::rename(directory_.path() / "new", directory_.path() / "8");
  const auto file = set_.Open(8);
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().found, testing::HasSubstr("taken the place"));
}

TEST_F(FileSetTest, AMissingFileIsAnErrorEachTime) {
  const uint32_t missing = set_.Add({.path = "missing"});
  for (int i = 0; i < 2; ++i) {
    const auto file = set_.Open(missing);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().file, directory_.path() / "missing");
  }
}

}  // namespace
}  // namespace reshard
