#include <gtest/gtest.h>

#include <atomic>
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
      ASSERT_EQ(set_.Add(std::to_string(i)), i);
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

TEST_F(FileSetTest, AMissingFileIsAnErrorEachTime) {
  const uint32_t missing = set_.Add("missing");
  for (int i = 0; i < 2; ++i) {
    const auto file = set_.Open(missing);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().file, directory_.path() / "missing");
  }
}

}  // namespace
}  // namespace reshard
