#ifndef RESHARD_IO_IO_TEST_SUPPORT_H_
#define RESHARD_IO_IO_TEST_SUPPORT_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace reshard {

/// A directory of a test's own, removed at its end.
class TestDirectory {
 public:
  TestDirectory() {
    std::string name = testing::TempDir() + "/reshard-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TestDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A file's bytes, read without any code of ours.
inline std::string BytesOf(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void PutBytes(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace reshard

#endif  // RESHARD_IO_IO_TEST_SUPPORT_H_
