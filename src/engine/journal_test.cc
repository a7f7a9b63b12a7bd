#include "engine/journal.h"

#include <gtest/gtest.h>

#include "io/io_test_support.h"

namespace reshard {
namespace {

FileChecksum SumOf(uint64_t block) { return {.size = 1, .blocks = {block}}; }

std::string Found(const Journal& journal, const std::string& path) {
  const std::string* root = journal.Find(path);
  return root ? *root : "none";
}

class JournalTest : public testing::Test {
 protected:
  Journal Open(const std::string& source) {
    auto journal = Journal::Open(*OutputDirectory::Open(directory_.path()), source);
    EXPECT_TRUE(journal) << journal.error().ToString();
    return std::move(*journal);
  }
  std::filesystem::path file() const { return directory_.path() / kJournalName; }
  TestDirectory directory_;
};

TEST_F(JournalTest, RemembersFinishedFiles) {
  {
    Journal journal = Open("source-1");
    EXPECT_TRUE(journal.empty());
    EXPECT_EQ(journal.Find("a"), nullptr);
    ASSERT_TRUE(journal.Add("a", SumOf(1)));
    ASSERT_TRUE(journal.Add("name with spaces", SumOf(2)));
    ASSERT_TRUE(journal.Add("a", SumOf(3)));  // Written again: the later line counts.
  }
  for (int again = 0; again < 2; ++again) {
    const Journal journal = Open("source-1");
    EXPECT_FALSE(journal.empty());
    EXPECT_EQ(Found(journal, "a"), SumOf(3).Root());
    EXPECT_EQ(Found(journal, "name with spaces"), SumOf(2).Root());
  }
}

TEST_F(JournalTest, AnotherSourceBeginsAfresh) {
  { ASSERT_TRUE(Open("source-1").Add("a", SumOf(1))); }
  EXPECT_TRUE(Open("source-2").empty());
  EXPECT_TRUE(Open("source-1").empty()) << "what the second run forgot must not come back";
}

TEST_F(JournalTest, ALineCutOffByACrashIsForgottenAndOverwritten) {
  { ASSERT_TRUE(Open("s").Add("a", SumOf(1))); }
  const std::string whole = BytesOf(file());
  { ASSERT_TRUE(Open("s").Add("b", SumOf(2))); }
  const std::string both = BytesOf(file());
  for (size_t length = whole.size(); length < both.size(); ++length) {
    PutBytes(file(), both.substr(0, length));
    Journal journal = Open("s");
    EXPECT_EQ(Found(journal, "a"), SumOf(1).Root());
    EXPECT_EQ(Found(journal, "b"), "none") << length;
    ASSERT_TRUE(journal.Add("b", SumOf(2)));
    EXPECT_EQ(BytesOf(file()), both);
  }
}

TEST_F(JournalTest, DamageCountsAsEmpty) {
  for (const char* text : {"", "\n", "reshard-journal 2 s\ndone x", "reshard-journal 1 s",
                           "reshard-journal 1 s\ndone short a\n", "\xff\xfe\0garbage"}) {
    PutBytes(file(), text);
    EXPECT_TRUE(Open("s").empty()) << text;
  }
}

// The line that says which directory becomes the output is none of a finished file.
TEST_F(JournalTest, ALineOfAnotherKindEndsIt) {
  { ASSERT_TRUE(Open("s").Add("a", SumOf(1))); }
  const std::string whole = BytesOf(file());
  PutBytes(file(), whole + "commit 12 34\n");
  const Journal read = Journal::Read(file(), "s");
  EXPECT_EQ(Found(read, "a"), SumOf(1).Root());
  EXPECT_TRUE(Journal::Read(file(), "another").empty());
  EXPECT_TRUE(Journal::Read(directory_.path() / "none", "s").empty());
  EXPECT_EQ(Found(Open("s"), "a"), SumOf(1).Root());
  EXPECT_EQ(BytesOf(file()), whole);
}

TEST_F(JournalTest, ALinkIsNoJournal) {
  PutBytes(directory_.path() / "victim", "precious");
  std::filesystem::create_symlink("victim", file());
  ASSERT_TRUE(Open("s").Add("a", SumOf(1)));
  EXPECT_EQ(BytesOf(directory_.path() / "victim"), "precious");
}

}  // namespace
}  // namespace reshard
