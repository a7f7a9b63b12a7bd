#include "io/staged_output.h"

#include <gmock/gmock.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

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

  // A run that has written a file.
  StagedOutput Begin(const StagedOutput::Options& options = {}, const std::string& bytes = "new") {
    StagedOutput output = Open(options);
    EXPECT_TRUE(output.directory().WriteText("f", bytes));
    return output;
  }
  static std::set<std::string> files() { return {"f"}; }
  fs::path staging() const { return directory_.path() / "out.partial-id"; }
  fs::path replaced() const { return directory_.path() / "out.partial-id.replaced"; }
  fs::path journal() const { return directory_.path() / "out.partial-id.journal"; }
  void PutOld() const {
    fs::create_directory(destination());
    PutBytes(destination() / "old", "1");
  }
  static uint64_t Inode(const fs::path& path) {
    struct stat info;
    EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
    return info.st_ino;
  }
  // As a run leaves it that is stopped right before its output gets its name.
  void StopBeforeTheSwap(uint64_t replaces) {
    const uint64_t output = Inode(staging());
    PutBytes(journal(), "lines\ncommit " + std::to_string(output) + " " +
                            std::to_string(replaces) + "\n");
    fs::remove(staging() / kJournalName);
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
  ASSERT_TRUE(output.Commit(files()));
  EXPECT_EQ(BytesOf(destination() / "f"), "new");
  EXPECT_EQ(output.path(), destination());
  EXPECT_FALSE(fs::exists(destination() / kJournalName));
  EXPECT_TRUE(output.Finish().empty());
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

TEST_F(StagedOutputTest, MakesParentsAndTakesATrailingSlash) {
  auto output = StagedOutput::Open(directory_.path() / "a" / "b" / "out/", "id", {});
  ASSERT_TRUE(output) << output.error().ToString();
  EXPECT_EQ(output->path(), directory_.path() / "a" / "b" / "out.partial-id");
  ASSERT_TRUE(output->Commit({}));
  EXPECT_TRUE(fs::is_directory(directory_.path() / "a" / "b" / "out"));
}

TEST_F(StagedOutputTest, AnInterruptedRunIsFoundAgainUnlessNotWanted) {
  { PutBytes(Open().path() / "f", "old"); }
  EXPECT_EQ(BytesOf(Open().path() / "f"), "old");
  EXPECT_FALSE(fs::exists(Open({}, "other").path() / "f")) << "another plan shares nothing";
  EXPECT_FALSE(fs::exists(Open({.resume = false}).path() / "f"));
  EXPECT_TRUE(fs::exists(staging() / kJournalName));
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
  ASSERT_TRUE(output.Commit(files()));
  EXPECT_EQ(BytesOf(destination() / "f"), "new");
}

TEST_F(StagedOutputTest, ADestinationThatAppearsDuringTheRunIsKept) {
  StagedOutput output = Open();
  PutBytes(output.path() / "f", "new");
  fs::create_directory(destination());
  PutBytes(destination() / "theirs", "1");
  const auto commit = output.Commit(files());
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
  ASSERT_TRUE(output.Commit(files()));
  EXPECT_EQ(BytesOf(destination() / "f"), "new");
  EXPECT_FALSE(fs::exists(destination() / "old"));
  EXPECT_TRUE(output.Finish().empty());
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

TEST_F(StagedOutputTest, ForceReplacesAFile) {
  PutBytes(destination(), "a file");
  StagedOutput output = Open({.force = true});
  ASSERT_TRUE(output.Commit({}));
  EXPECT_TRUE(fs::is_directory(destination()));
  EXPECT_TRUE(output.Finish().empty());
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

// What an earlier replacement could not delete.
TEST_F(StagedOutputTest, WhatWasReplacedEarlierIsNoHindrance) {
  fs::create_directories(replaced() / "folder");
  PutOld();
  StagedOutput output = Begin({.force = true});
  const auto commit = output.Commit(files());
  ASSERT_TRUE(commit) << commit.error().ToString();
  EXPECT_TRUE(output.Finish().empty());
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

// What a run leaves that is stopped at the exchange or behind it: the next one never writes into the
// old output, whose name is that of the staging directory for a moment.
TEST_F(StagedOutputTest, StoppedBehindTheExchange) {
  PutOld();
  const uint64_t old = Inode(destination());
  { Begin({.force = true}); }
  StopBeforeTheSwap(old);
  ASSERT_EQ(::renameat2(AT_FDCWD, staging().c_str(), AT_FDCWD, destination().c_str(),
                        RENAME_EXCHANGE), 0);
  ASSERT_TRUE(fs::exists(staging() / "old"));
  {
    auto committed = StagedOutput::FindCommitted(destination(), "id");
    ASSERT_TRUE(committed && *committed);
    EXPECT_EQ((*committed)->path(), destination());
    const auto again = StagedOutput::FindCommitted(destination(), "id");
    ASSERT_FALSE(again) << "the run that ends it holds the lock";
    EXPECT_THAT(again.error().found, testing::HasSubstr("another run"));
  }
  // With the command's source changed there is nothing to end: all is written again.
  {
    StagedOutput output = Open({.force = true});
    EXPECT_FALSE(fs::exists(output.path() / "old"));
    EXPECT_TRUE(fs::exists(replaced() / "old"));
    EXPECT_FALSE(fs::exists(journal()));
    ASSERT_TRUE(output.directory().WriteText("f", "newer"));
    ASSERT_TRUE(output.Commit(files()));
    EXPECT_TRUE(output.Finish().empty());
  }
  EXPECT_EQ(BytesOf(destination() / "f"), "newer");
  EXPECT_FALSE(fs::exists(destination() / "old"));
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

TEST_F(StagedOutputTest, FinishDeletesWhatTheStoppedRunReplaced) {
  PutOld();
  const uint64_t old = Inode(destination());
  { Begin({.force = true}); }
  StopBeforeTheSwap(old);
  ASSERT_EQ(::renameat2(AT_FDCWD, staging().c_str(), AT_FDCWD, destination().c_str(),
                        RENAME_EXCHANGE), 0);
  auto committed = StagedOutput::FindCommitted(destination(), "id");
  ASSERT_TRUE(committed && *committed);
  EXPECT_TRUE((*committed)->Finish().empty());
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
  EXPECT_EQ(BytesOf(destination() / "f"), "new");
}

TEST_F(StagedOutputTest, StoppedBeforeTheSwap) {
  PutOld();
  const uint64_t old = Inode(destination());
  { Begin({.force = true}); }
  StopBeforeTheSwap(old);
  EXPECT_FALSE(*StagedOutput::FindCommitted(destination(), "id"));
  StagedOutput output = Open({.force = true});
  EXPECT_EQ(BytesOf(output.path() / kJournalName).substr(0, 6), "lines\n");
  EXPECT_EQ(BytesOf(output.path() / "f"), "new") << "nothing needs to be written twice";
  ASSERT_TRUE(output.Commit(files()));
  EXPECT_TRUE(output.Finish().empty());
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

// Where names cannot be exchanged there is a moment without a destination: it ends with the next run,
// even if that one is refused.
TEST_F(StagedOutputTest, StoppedWithoutADestination) {
  PutOld();
  const uint64_t old = Inode(destination());
  { Begin({.force = true}); }
  StopBeforeTheSwap(old);
  fs::rename(destination(), replaced());
  EXPECT_FALSE(StagedOutput::Open(destination(), "id", {}));
  EXPECT_TRUE(fs::exists(destination() / "old"));
  StagedOutput output = Open({.force = true});
  EXPECT_EQ(BytesOf(output.path() / "f"), "new");
  ASSERT_TRUE(output.Commit(files()));
  EXPECT_TRUE(output.Finish().empty());
  EXPECT_EQ(Names(), std::set<std::string>{"out"});
}

// An inode that stands in a journal of long ago may have become another directory's.
TEST_F(StagedOutputTest, AJournalThatFitsNothingIsForgotten) {
  for (const char* text : {"commit 1 0\n", "commit 1 2\n", "commit 1\n", "commit x y\n", "", "\n",
                           "commit 99999999999999999999999 0\n"}) {
    PutBytes(journal(), text);
    EXPECT_FALSE(*StagedOutput::FindCommitted(destination(), "id")) << text;
    StagedOutput output = Begin();
    ASSERT_TRUE(output.Commit(files()));
    EXPECT_TRUE(output.Finish().empty());
    EXPECT_EQ(Names(), std::set<std::string>{"out"}) << text;
    fs::remove_all(destination());
  }
}

// Only what a run has begun is taken for a staging directory.
TEST_F(StagedOutputTest, WhatIsNotOursIsRefused) {
  const auto refused = [&](bool resume) {
    const auto output = StagedOutput::Open(destination(), "id", {.resume = resume});
    EXPECT_FALSE(output);
    EXPECT_EQ(output.error().kind, ErrorKind::kDestination);
    EXPECT_EQ(output.error().file, staging());
  };
  fs::create_directory(staging());
  { Open(); }  // An empty directory is as good as a new one.
  fs::remove_all(staging());
  for (bool resume : {true, false}) {
    SCOPED_TRACE(resume);
    fs::create_directory(staging());
    PutBytes(staging() / "old", "1");
    refused(resume);
    EXPECT_EQ(BytesOf(staging() / "old"), "1");
    fs::create_symlink("old", staging() / kJournalName);
    refused(resume);
    fs::remove_all(staging());

    PutBytes(staging(), "a file");
    refused(resume);
    fs::remove(staging());

    fs::create_directory(directory_.path() / "elsewhere");
    PutBytes(directory_.path() / "elsewhere" / kJournalName, "");
    fs::create_symlink("elsewhere", staging());
    refused(resume);
    fs::remove(staging());
    EXPECT_EQ(Names(), std::set<std::string>{"elsewhere"});
    fs::remove_all(directory_.path() / "elsewhere");
  }
}

TEST_F(StagedOutputTest, ADirectoryOfAnotherUserIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a directory away";
  { Open(); }
  ASSERT_EQ(::chown(staging().c_str(), 12345, 12345), 0);
  const auto output = StagedOutput::Open(destination(), "id", {});
  ASSERT_FALSE(output);
  EXPECT_THAT(output.error().found, testing::HasSubstr("another user"));
}

// What no run has written is never published.
TEST_F(StagedOutputTest, WhatIsNotInThePlanIsNotPublished) {
  const std::set<std::string> plan = {"f", "x/g"};
  StagedOutput output = Begin();
  ASSERT_TRUE(output.directory().WriteText("x/g.partial", "2"));
  EXPECT_TRUE(output.CheckNothingElse(plan));
  ASSERT_FALSE(output.Commit(plan)) << "a staged name is none of an output's";
  ASSERT_TRUE(output.directory().Rename("x/g.partial", "x/g"));
  for (const char* name : {"extra.py", "x/extra", "y/", "f2@", "x/y/z/", "x/f"}) {
    SCOPED_TRACE(name);
    const std::string path = name;
    const fs::path at = output.path() / path.substr(0, path.find_first_of("@"));
    if (path.ends_with('/')) fs::create_directories(at);
    else if (path.ends_with('@')) fs::create_symlink("f", at);
    else PutBytes(at, "");
    for (const auto& refused : {output.CheckNothingElse(plan), output.Commit(plan)}) {
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().kind, ErrorKind::kDestination);
      EXPECT_THAT(refused.error().file, testing::StartsWith(output.path().string()));
    }
    EXPECT_FALSE(fs::exists(destination()));
    fs::remove_all(path.ends_with('/') ? at.parent_path() : at);
    if (path == "x/y/z/") fs::remove_all(output.path() / "x" / "y");
  }
  const auto commit = output.Commit(plan);
  ASSERT_TRUE(commit) << commit.error().ToString();
  EXPECT_EQ(BytesOf(destination() / "x" / "g"), "2");
}

TEST_F(StagedOutputTest, AFolderThatBecameALinkIsNotPublished) {
  StagedOutput output = Begin();
  fs::create_directory(directory_.path() / "elsewhere");
  PutBytes(directory_.path() / "elsewhere" / "g", "2");
  fs::create_symlink(directory_.path() / "elsewhere", output.path() / "x");
  EXPECT_FALSE(output.Commit({"f", "x/g"}));
}

TEST_F(StagedOutputTest, AStagingDirectoryThatWasMovedIsNotPublished) {
  StagedOutput output = Begin();
  fs::rename(staging(), directory_.path() / "moved");
  fs::create_directory(staging());
  PutBytes(staging() / "f", "theirs");
  const auto commit = output.Commit(files());
  ASSERT_FALSE(commit);
  EXPECT_THAT(commit.error().found, testing::HasSubstr("moved away"));
  EXPECT_FALSE(fs::exists(destination()));
  output.Abandon();
  EXPECT_EQ(BytesOf(staging() / "f"), "theirs");
}

TEST_F(StagedOutputTest, OthersAreNamed) {
  for (const char* name : {"out.partial-1", "out.partial-2.journal", "out.partial-1.replaced",
                           "out.partial-id.replaced", "outer", "out"})
    fs::create_directory(directory_.path() / name);
  const StagedOutput output = Open();
  const StagedOutput::Leftovers left = output.LeftByOthers();
  EXPECT_THAT(left.staged, testing::ElementsAre(directory_.path() / "out.partial-1",
                                                directory_.path() / "out.partial-2.journal"));
  EXPECT_THAT(left.replaced, testing::ElementsAre(directory_.path() / "out.partial-1.replaced"));
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
