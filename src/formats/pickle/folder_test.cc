#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>
#include <string>

#include "formats/pickle/pickle.h"
#include "formats/pickle/pickle_test_support.h"

namespace reshard::pickle {
namespace {

using namespace std::string_literals;

// Folds each model.Obj to its text.
class TextFolder final : public Folder {
 public:
  explicit TextFolder(FoldAt when) : when_(when) {}

  FoldRule OnGlobal(std::string_view module, std::string_view name) override {
    if (module == "model" && name == "Obj") return {when_, 7};
    return {};
  }

  uint64_t Fold(uint32_t tag, const ObjectParts& object) override {
    EXPECT_EQ(tag, 7u);
    texts_.push_back(fmt::format("obj({}, {}{}{})", ShowHere(object.callable),
                                 ShowHere(object.args),
                                 object.state.is(Kind::kNone) ? "" : ", state=",
                                 object.state.is(Kind::kNone) ? "" : ShowHere(object.state)));
    return texts_.size();
  }

  bool FoldEntry(uint64_t key, uint64_t value) override {
    entries_.emplace_back(key, value);
    return true;
  }

  std::string ShowHere(const Value& value) const {
    return Show(value, [this](uint64_t handle) { return texts_.at(handle - 1); });
  }

  size_t count() const { return texts_.size(); }
  const std::vector<std::pair<uint64_t, uint64_t>>& entries() const { return entries_; }

 private:
  FoldAt when_;
  std::deque<std::string> texts_;
  std::vector<std::pair<uint64_t, uint64_t>> entries_;
};

// What several objects share must outlive the first of them.
TEST(FolderTest, FoldedGraphShowsTheSame) {
  const std::string bytes = ReadTestData("pickle/graph.pkl");
  TextFolder folder(FoldAt::kState);
  auto document = Decode(MemorySource(bytes), 0, {}, &folder);
  ASSERT_TRUE(document) << document.error().ToString();
  EXPECT_GT(folder.count(), 100u);
  EXPECT_EQ(folder.ShowHere(document->root()), ReadTestLines("pickle/graph.txt").at(0));
}

TEST(FolderTest, FoldedObjectsTakeNoMemory) {
  std::string bytes =
      "\x80\x04\x8c\x05model\x94\x8c\x03Obj\x94\x93\x94"
      "0](";
  for (int i = 0; i < 20000; ++i)
    bytes += "h\x02)\x81\x94}\x94(\x8c\x01k\x94\x8c\x28" + std::string(40, 'v') +
             "\x94\x8c\x01l](K\x01K\x02K\x03"
             "eub";
  bytes += "e.";
  TextFolder folder(FoldAt::kState);
  auto folded = Decode(MemorySource(bytes), 0, {}, &folder);
  ASSERT_TRUE(folded) << folded.error().ToString();
  EXPECT_EQ(folder.count(), 20000u);
  EXPECT_EQ(folded->root().items().size(), 20000u);
  EXPECT_LT(folded->memory(), 20000 * 16 + (2 << 20));
  auto whole = Decode(MemorySource(bytes));
  ASSERT_TRUE(whole);
  EXPECT_GT(whole->memory(), 3 * folded->memory());
}

TEST(FolderTest, CallsAreFoldedAtOnce) {
  TextFolder folder(FoldAt::kCall);
  auto document = Decode(MemorySource("\x80\x04"
                                      "cmodel\nObj\nK\x01\x85R\x94h\0\x86."s),
                         0, {}, &folder);
  ASSERT_TRUE(document);
  ASSERT_EQ(document->root().items().size(), 2u);
  EXPECT_EQ(folder.count(), 1u);
  EXPECT_EQ(folder.ShowHere(document->root()), "(obj(<model.Obj>, (1)), obj(<model.Obj>, (1)))");
}

// The memo names the object before its state is set; later it must give the handle.
TEST(FolderTest, TheMemoGivesTheHandle) {
  TextFolder folder(FoldAt::kState);
  auto document = Decode(MemorySource("\x80\x04"
                                      "cmodel\nObj\n)\x81\x94}K\x01K\x02sbh\0\x86."s),
                         0, {}, &folder);
  ASSERT_TRUE(document) << document.error().ToString();
  ASSERT_EQ(document->root().items().size(), 2u);
  EXPECT_TRUE(document->root().items()[0].is(Kind::kFolded));
  EXPECT_TRUE(document->root().items()[1].is(Kind::kFolded));
}

// A list from before the object, filled while the object is made, must keep what it was given.
TEST(FolderTest, AListFilledWithinAFoldedObjectKeepsItsItems) {
  const std::string bytes =
      "\x80\x04]\x94"        // a list, slot 0
      "cmodel\nObj\n)\x81}"  // an object and its state
      "K\x01h\0\x8c\x04"
      "kept\x85"
      "as"  // state[1] = the list, with ('kept',) added
      "b"   // folded here
      "\x8c\x08"
      "overlaid\x87."s;
  TextFolder folder(FoldAt::kState);
  auto document = Decode(MemorySource(bytes), 0, {}, &folder);
  ASSERT_TRUE(document) << document.error().ToString();
  EXPECT_EQ(folder.ShowHere(document->root()),
            "([('kept')], obj(<model.Obj>, (), state={1: [('kept')]}), 'overlaid')");
}

TEST(FolderTest, EntriesOfFoldedValuesCanBeTaken) {
  const std::string object = "cmodel\nObj\n)R";
  TextFolder folder(FoldAt::kCall);
  auto document =
      Decode(MemorySource("}(" + object + object + "K\x01" + object + "u."), 0, {}, &folder);
  ASSERT_TRUE(document) << document.error().ToString();
  EXPECT_EQ(folder.entries(), (std::vector<std::pair<uint64_t, uint64_t>>{{1, 2}}));
  ASSERT_EQ(document->root().entries().size(), 1u);
  EXPECT_EQ(document->root().entries()[0].key.as_int(), 1);
}

}  // namespace
}  // namespace reshard::pickle
