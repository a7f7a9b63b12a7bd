#include "io/directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io_test_support.h"

namespace reshard {
namespace {

namespace fs = std::filesystem;

TEST(DirectoryTest, ListsNamesInOrder) {
  TestDirectory directory;
  for (const char* name : {"b", "a", ".hidden"}) PutBytes(directory.path() / name, "");
  fs::create_directory(directory.path() / "c");
  fs::create_symlink("nowhere", directory.path() / "link");
  const auto names = ListDirectory(directory.path());
  ASSERT_TRUE(names);
  EXPECT_THAT(*names, testing::ElementsAre(".hidden", "a", "b", "c", "link"));
}

TEST(DirectoryTest, WhatCannotBeListedIsAnError) {
  TestDirectory directory;
  PutBytes(directory.path() / "file", "");
  for (const char* name : {"file", "none"}) {
    const auto names = ListDirectory(directory.path() / name, ErrorKind::kDestination);
    ASSERT_FALSE(names) << name;
    EXPECT_EQ(names.error().kind, ErrorKind::kDestination);
    EXPECT_EQ(names.error().file, directory.path() / name);
    EXPECT_THAT(names.error().found, testing::StartsWith("cannot list this directory: "));
  }
}

TEST(DirectoryTest, TellsWhatLiesAtAPath) {
  TestDirectory directory;
  const fs::path at = directory.path();
  PutBytes(at / "file", "");
  fs::create_symlink("file", at / "link");
  fs::create_symlink("nowhere", at / "dangling");
  ASSERT_EQ(::mkfifo((at / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(KindAt(at), PathKind::kDirectory);
  EXPECT_EQ(KindAt(at / "file"), PathKind::kFile);
  EXPECT_EQ(KindAt(at / "link"), PathKind::kFile);
  EXPECT_EQ(KindAt(at / "fifo"), PathKind::kOther);
  for (const char* name : {"none", "none/below", "file/below", "dangling"})
    EXPECT_EQ(KindAt(at / name), PathKind::kNothing) << name;
  EXPECT_EQ(KindAt(at / std::string(5000, 'x')), PathKind::kNothing);
}

TEST(DirectoryTest, NotBeingAbleToTellIsAnError) {
  TestDirectory directory;
  fs::create_symlink("loop", directory.path() / "loop");
  const auto kind = KindAt(directory.path() / "loop");
  ASSERT_FALSE(kind);
  EXPECT_EQ(kind.error().kind, ErrorKind::kSource);
  EXPECT_EQ(kind.error().file, directory.path() / "loop");
}

TEST(DirectoryTest, ARelativePathNeedsAWorkingDirectory) {
  const fs::path before = fs::current_path();
  EXPECT_EQ(*AbsolutePath("a/./b/../c"), before / "a/c");
  {
    TestDirectory directory;
    fs::current_path(directory.path());
  }
  const auto whole = AbsolutePath("a", ErrorKind::kDestination);
  EXPECT_EQ(*AbsolutePath("/a/../b"), "/b");
  fs::current_path(before);
  ASSERT_FALSE(whole);
  EXPECT_EQ(whole.error().kind, ErrorKind::kDestination);
  EXPECT_THAT(whole.error().found, testing::StartsWith("cannot find the working directory: "));
}

}  // namespace
}  // namespace reshard
