#include "io/staged_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "io/io_test_support.h"

namespace reshard {
namespace {

namespace fs = std::filesystem;

class StagedOutputTest : public testing::Test {
 protected:
  fs::path destination() const { return directory_.path() / "out"; }

  StagedOutput Open(const StagedOutput::Options& options = {}, const std::string& id = "id") {
    auto output = StagedOutput::Open(destination(), id, options);
    EXPECT_TRUE(output) << output.error().ToString();
    return std::move(*output);
  }

  // What lies in the parent directory.
  std::set<std::string> Names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_.path()))
      names.insert(entry.path().filename());
    return names;
  }

  TestDirectory directory_;
};

TEST_F(StagedOutputTest, IsVisibleOnlyWhenCommitted) {
  StagedOutput output = Open({}, "0123456789abcdefREST");
  EXPECT_EQ(output.path(), directory_.path() / "out.partial-0123456789abcdef");
  PutBytes(output.path() / "f", "new");
  EXPECT_FALSE(fs::exists(destination()));
  EXPECT_GT(output.FreeBytes().value(), 0u);
  ASSERT_TRUE(output.Commit());
  EXPECT_EQ(BytesOf(destination() / "f"), "new");
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

TEST_F(StagedOutputTest, MakesParentsAndTakesATrailingSlash) {
  auto output = StagedOutput::Open(directory_.path() / "a" / "b" / "out/", "id", {});
  ASSERT_TRUE(output) << output.error().ToString();
  EXPECT_EQ(output->path(), directory_.path() / "a" / "b" / "out.partial-id");
  ASSERT_TRUE(output->Commit());
  EXPECT_TRUE(fs::is_directory(directory_.path() / "a" / "b" / "out"));
}

TEST_F(StagedOutputTest, AnInterruptedRunIsFoundAgainUnlessNotWanted) {
  { PutBytes(Open().path() / "f", "old"); }
  EXPECT_EQ(BytesOf(Open().path() / "f"), "old");
  EXPECT_TRUE(fs::is_empty(Open({}, "other").path())) << "another plan shares nothing";
  EXPECT_TRUE(fs::is_empty(Open({.resume = false}).path()));
}

TEST_F(StagedOutputTest, ADestinationThatExistsIsRefused) {
  fs::create_directory(destination());
  { Open(); }  // An empty directory does not count.
  PutBytes(destination() / "precious", "1");
  const auto output = StagedOutput::Open(destination(), "id2", {});
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().kind, ErrorKind::kDestination);
  EXPECT_THAT(output.error().help, testing::HasSubstr("--force"));
  EXPECT_FALSE(Names().contains("out.partial-id2"));

  fs::remove_all(destination());
  PutBytes(destination(), "a file");
  EXPECT_FALSE(StagedOutput::Open(destination(), "id", {}));
  fs::remove(destination());
  fs::create_symlink("nowhere", destination());
  EXPECT_FALSE(StagedOutput::Open(destination(), "id", {}));
}

TEST_F(StagedOutputTest, CommitsOverAnEmptyDirectory) {
  fs::create_directory(destination());
  StagedOutput output = Open();
  PutBytes(output.path() / "f", "new");
  ASSERT_TRUE(output.Commit());
  EXPECT_EQ(BytesOf(destination() / "f"), "new");
}

TEST_F(StagedOutputTest, ADestinationThatAppearsDuringTheRunIsKept) {
  StagedOutput output = Open();
  PutBytes(output.path() / "f", "new");
  fs::create_directory(destination());
  PutBytes(destination() / "theirs", "1");
  const auto commit = output.Commit();
  ASSERT_FALSE(commit);
  EXPECT_EQ(commit.error().kind, ErrorKind::kDestination);
  EXPECT_EQ(BytesOf(destination() / "theirs"), "1");
  EXPECT_EQ(BytesOf(output.path() / "f"), "new") << "nothing needs to be written twice";
}

TEST_F(StagedOutputTest, ForceReplacesTheWhole) {
  fs::create_directory(destination());
  PutBytes(destination() / "old", "1");
  StagedOutput output = Open({.force = true});
  PutBytes(output.path() / "f", "new");
  EXPECT_TRUE(fs::exists(destination() / "old")) << "until the end the old one stays";
  ASSERT_TRUE(output.Commit());
  EXPECT_EQ(BytesOf(destination() / "f"), "new");
  EXPECT_FALSE(fs::exists(destination() / "old"));
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

TEST_F(StagedOutputTest, ForceReplacesAFile) {
  PutBytes(destination(), "a file");
  StagedOutput output = Open({.force = true});
  ASSERT_TRUE(output.Commit());
  EXPECT_TRUE(fs::is_directory(destination()));
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

// A crash between the exchange and the removal leaves the replaced directory.
TEST_F(StagedOutputTest, WhatACrashOfAReplacementLeftIsNoHindrance) {
  fs::create_directories(directory_.path() / "out.partial-id.replaced" / "folder");
  fs::create_directory(destination());
  PutBytes(destination() / "old", "1");
  StagedOutput output = Open({.force = true});
  PutBytes(output.path() / "f", "new");
  const auto commit = output.Commit();
  ASSERT_TRUE(commit) << commit.error().ToString();
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

TEST_F(StagedOutputTest, OneRunAtATime) {
  {
    const StagedOutput first = Open();
    PutBytes(first.path() / "f", "1");
    const auto second = StagedOutput::Open(destination(), "id", {.resume = false});
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().kind, ErrorKind::kDestination);
    EXPECT_THAT(second.error().found, testing::HasSubstr("another run"));
    EXPECT_TRUE(fs::exists(first.path() / "f"));
  }
  Open();  // The lock goes with its holder.
}

TEST_F(StagedOutputTest, AbandonLeavesNothing) {
  StagedOutput output = Open();
  PutBytes(output.path() / "f", "1");
  output.Abandon();
  EXPECT_TRUE(Names().empty());
}

TEST_F(StagedOutputTest, APlaceThatCannotBe) {
  PutBytes(directory_.path() / "file", "1");
  const auto output = StagedOutput::Open(directory_.path() / "file" / "out", "id", {});
  ASSERT_FALSE(output);
  EXPECT_EQ(output.error().kind, ErrorKind::kDestination);
}

}  // namespace
}  // namespace reshard
