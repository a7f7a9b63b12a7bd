#include "io/output_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "io/io_test_support.h"

namespace reshard {
namespace {

namespace fs = std::filesystem;

class OutputDirectoryTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(root());
    fs::create_directory(elsewhere());
    directory_.emplace(*OutputDirectory::Open(root()));
  }
  fs::path root() const { return test_.path() / "root"; }
  fs::path elsewhere() const { return test_.path() / "elsewhere"; }
  void ExpectRefused(const Result<>& result) const {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, ErrorKind::kDestination);
    EXPECT_TRUE(fs::is_empty(elsewhere()));
  }

  TestDirectory test_;
  std::optional<OutputDirectory> directory_;
};

TEST_F(OutputDirectoryTest, MakesFilesAndFolders) {
  ASSERT_TRUE(directory_->WriteText("a", "1"));
  ASSERT_TRUE(directory_->WriteText("x/y/b", "2"));
  ASSERT_TRUE(directory_->WriteText("x/y/b", "3"));
  EXPECT_EQ(BytesOf(root() / "a"), "1");
  EXPECT_EQ(BytesOf(root() / "x" / "y" / "b"), "3");
  ASSERT_TRUE(directory_->Rename("x/y/b", "x/c"));
  ASSERT_TRUE(directory_->Sync("x"));
  const auto file = directory_->OpenToRead("x/c");
  ASSERT_TRUE(file);
  EXPECT_EQ((*file)->size(), 1u);
  ASSERT_TRUE((*directory_->OpenToWrite("x/c"))->WriteAt(1, std::as_bytes(std::span("45", 2))));
  EXPECT_EQ(BytesOf(root() / "x" / "c"), "345");
  ASSERT_TRUE(directory_->Remove("x/c"));
  ASSERT_TRUE(directory_->Remove("x/c")) << "what is not there need not be removed";
  EXPECT_FALSE(directory_->OpenToRead("x/c"));
  EXPECT_FALSE(directory_->Sync("none"));
}

TEST_F(OutputDirectoryTest, Lists) {
  ASSERT_TRUE(directory_->WriteText("f", ""));
  ASSERT_TRUE(directory_->WriteText("d/g", ""));
  fs::create_symlink(elsewhere(), root() / "link");
  for (int again = 0; again < 2; ++again) {
    const auto entries = directory_->List();
    ASSERT_TRUE(entries);
    std::vector<std::string> seen;
    for (const auto& entry : *entries)
      seen.push_back(entry.name + (entry.is_folder ? "/" : entry.is_file ? "" : "@"));
    EXPECT_THAT(seen, testing::UnorderedElementsAre("f", "d/", "link@"));
  }
  ASSERT_EQ(directory_->List("d")->size(), 1u);
  EXPECT_FALSE(directory_->List("link"));
}

// Nothing is written, read or renamed through a link, wherever in a name it stands.
TEST_F(OutputDirectoryTest, NoLinkLeadsOut) {
  fs::create_symlink(elsewhere(), root() / "x");
  ExpectRefused(directory_->WriteText("x/f", "1"));
  ExpectRefused(directory_->WriteText("x/y/f", "1"));
  ASSERT_TRUE(directory_->WriteText("f", "1"));
  ExpectRefused(directory_->Rename("f", "x/f"));
  EXPECT_FALSE(OutputDirectory::Open(root() / "x"));

  PutBytes(test_.path() / "victim", "precious");
  fs::create_symlink(test_.path() / "victim", root() / "soft");
  fs::create_hard_link(test_.path() / "victim", root() / "hard");
  EXPECT_FALSE(directory_->OpenToRead("soft"));
  EXPECT_FALSE(directory_->OpenToWrite("soft"));
  const auto hard = directory_->OpenToRead("hard");
  ASSERT_FALSE(hard);
  EXPECT_THAT(hard.error().found, testing::HasSubstr("other names"));
  for (const char* name : {"soft", "hard"}) {
    ASSERT_TRUE(directory_->WriteText(name, "new"));
    EXPECT_EQ(BytesOf(test_.path() / "victim"), "precious");
    EXPECT_TRUE(directory_->OpenToRead(name));
  }
}

// Whoever may rename the directory cannot have its files written elsewhere.
TEST_F(OutputDirectoryTest, StaysTheSameWhenItsNameIsAnothers) {
  fs::rename(root(), test_.path() / "moved");
  fs::create_directory_symlink(elsewhere(), root());
  ASSERT_TRUE(directory_->WriteText("x/f", "1"));
  EXPECT_EQ(BytesOf(test_.path() / "moved" / "x" / "f"), "1");
  EXPECT_TRUE(fs::is_empty(elsewhere()));
}

TEST_F(OutputDirectoryTest, WhatIsNoFileIsLeft) {
  fs::create_directory(root() / "d");
  ASSERT_EQ(::mkfifo((root() / "fifo").c_str(), 0600), 0);
  for (const char* name : {"d", "fifo"}) {
    ExpectRefused(directory_->WriteText(name, "1"));
    EXPECT_FALSE(directory_->OpenToRead(name));
    EXPECT_FALSE(directory_->OpenToWrite(name));
    EXPECT_TRUE(fs::exists(root() / name));
  }
}

}  // namespace
}  // namespace reshard
