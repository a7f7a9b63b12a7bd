#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoints/hf/hf_source.h"
#include "io/io_test_support.h"

namespace reshard {
namespace {

using testing::ElementsAre;

class FindHfFilesTest : public testing::Test {
 protected:
  void Put(std::initializer_list<const char*> names) {
    for (const char* name : names) PutBytes(directory_.path() / name, "");
  }
  HfFiles Find() {
    const auto files = FindHfFiles(directory_.path());
    EXPECT_TRUE(files) << files.error().ToString();
    return files.value_or(HfFiles());
  }
  TestDirectory directory_;
};

TEST_F(FindHfFilesTest, NothingThere) {
  Put({"config.json", "README.md"});
  EXPECT_TRUE(Find().names.empty());
  EXPECT_FALSE(FindHfFiles(directory_.path() / "none"));
}

// The order in which transformers looks.
TEST_F(FindHfFilesTest, TheFirstKindThatIsThere) {
  Put({"pytorch_model-00001-of-00001.bin"});
  EXPECT_THAT(Find().names, ElementsAre("pytorch_model-00001-of-00001.bin"));
  EXPECT_EQ(Find().layout, HfFiles::Layout::kBin);

  PutBytes(directory_.path() / "pytorch_model.bin.index.json",
           R"({"weight_map": {"a": "two.bin", "b": "one.bin", "c": "two.bin"}})");
  EXPECT_THAT(Find().names, ElementsAre("one.bin", "two.bin"));
  EXPECT_EQ(Find().index, "pytorch_model.bin.index.json");

  Put({"pytorch_model.bin"});
  EXPECT_THAT(Find().names, ElementsAre("pytorch_model.bin"));
  EXPECT_EQ(Find().index, "");

  PutBytes(directory_.path() / "model.safetensors.index.json",
           R"({"weight_map": {"a": "x.safetensors"}})");
  EXPECT_THAT(Find().names, ElementsAre("x.safetensors"));
  EXPECT_EQ(Find().layout, HfFiles::Layout::kSafetensors);

  Put({"model.safetensors"});
  EXPECT_THAT(Find().names, ElementsAre("model.safetensors"));

  Put({"shard-00002-model-00001-of-00001.safetensors",
       "shard-00001-model-00001-of-00001.safetensors"});
  EXPECT_THAT(Find().names, ElementsAre("shard-00001-model-00001-of-00001.safetensors",
                                        "shard-00002-model-00001-of-00001.safetensors"));
  EXPECT_EQ(Find().layout, HfFiles::Layout::kDcpShards);
}

TEST_F(FindHfFilesTest, PartsWithoutAnIndex) {
  Put({"model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors", "other.safetensors",
       "-of-1.safetensors", "model-x-of-00002.safetensors", "model-00001-of-.safetensors"});
  const HfFiles files = Find();
  EXPECT_THAT(files.names,
              ElementsAre("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"));
  EXPECT_EQ(files.index, "");
}

TEST_F(FindHfFilesTest, AMissingPartIsNamed) {
  Put({"model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"});
  const auto files = FindHfFiles(directory_.path());
  ASSERT_FALSE(files);
  EXPECT_EQ(files.error().kind, ErrorKind::kSource);
  EXPECT_EQ(files.error().file, directory_.path() / "model-00002-of-00003.safetensors");
}

// A count that no directory can hold is refused at its first gap.
TEST_F(FindHfFilesTest, AnAbsurdCount) {
  Put({"model-00001-of-18446744073709551615.safetensors"});
  EXPECT_FALSE(FindHfFiles(directory_.path()));
}

TEST_F(FindHfFilesTest, ADamagedIndexIsAnError) {
  Put({"model.safetensors.index.json"});
  EXPECT_FALSE(FindHfFiles(directory_.path()));
}

}  // namespace
}  // namespace reshard
