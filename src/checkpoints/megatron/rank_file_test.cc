#include "checkpoints/megatron/rank_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/torch_save/state_dict_writer.h"
#include "io/io_test_support.h"

namespace reshard::megatron {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using torch_save::Dict;

std::string Fixture(const std::string& name) {
  return BytesOf(std::string(RESHARD_TEST_DATA "/megatron/") + name + "/model_optim_rng.pt");
}

Result<RankFile> Decode(const std::string& bytes) {
  return DecodeRankFile(MemorySource(bytes, "mp_rank_00/model_optim_rng.pt"));
}

// A file without tensors: all of it is known from the start.
std::string FileOf(const Dict& dict) {
  const auto layout = torch_save::EncodeDict(dict);
  EXPECT_TRUE(layout && layout->literals.size() == 1 && layout->late_crcs.empty());
  return layout->literals[0].bytes;
}

std::string Fault(const Dict& dict) {
  const auto rank = Decode(FileOf(dict));
  EXPECT_FALSE(rank);
  if (rank) return "";
  EXPECT_EQ(rank.error().kind, ErrorKind::kSource);
  EXPECT_EQ(rank.error().file, "mp_rank_00/model_optim_rng.pt");
  return rank.error().found;
}

TEST(RankFileTest, ReadsArgsWithoutRunningThem) {
  const auto rank = Decode(Fixture("trained"));
  ASSERT_TRUE(rank) << rank.error().ToString();
  EXPECT_EQ(rank->chunks, 1u);
  EXPECT_THAT(rank->hints, Contains(Pair("tensor_model_parallel_size", 1)));
  EXPECT_THAT(rank->hints, Contains(Pair("padded_vocab_size", 128)));
  EXPECT_THAT(rank->hints, Contains(Pair("untie_embeddings_and_output_weights", 1)));
  EXPECT_THAT(rank->hints, Contains(Pair("iteration", 1000)));
  EXPECT_THAT(rank->hints, Contains(Pair("checkpoint_version", 3)));
  for (const char* name : {"virtual_pipeline_model_parallel_size", "lr", "model_type"})
    EXPECT_THAT(rank->hints, Not(Contains(Key(name)))) << name;
}

TEST(RankFileTest, CountsChunks) {
  EXPECT_EQ(Decode(Fixture("one")).value().chunks, 1u);
  EXPECT_EQ(Decode(Fixture("chunks")).value().chunks, 2u);
  // A stage without any tensor is a chunk too.
  EXPECT_EQ(Decode(FileOf({.items = {{"model1", Dict{}}, {"model0", Dict{}}}})).value().chunks, 2u);
}

TEST(RankFileTest, RefusesWhatIsNoModel) {
  const Dict none;
  EXPECT_THAT(Fault(none), HasSubstr("no 'model'"));
  EXPECT_THAT(Fault({.items = {{"state_dict", none}}}), HasSubstr("no 'model'"));
  EXPECT_THAT(Fault({.items = {{"model", none}, {"model0", none}}}), HasSubstr("both"));
  EXPECT_THAT(Fault({.items = {{"model0", none}, {"model2", none}}}), HasSubstr("no 'model1'"));
  EXPECT_THAT(Fault({.items = {{"model1", none}}}), HasSubstr("no 'model0'"));
  EXPECT_THAT(Fault({.items = {{"model", 1.0}}}), HasSubstr("'model' is no dictionary"));
  EXPECT_THAT(Fault({.items = {{"model0", none}, {"model1", "x"}}}), HasSubstr("'model1'"));
}

TEST(RankFileTest, VersionsThatAreNotWholeAreNoHint) {
  for (const double version : {2.5, 1e300, -1e300}) {
    const Dict file{.items = {{"model", Dict{}}, {"checkpoint_version", version}}};
    EXPECT_TRUE(Decode(FileOf(file)).value().hints.empty()) << version;
  }
  const Dict file{.items = {{"model", Dict{}}, {"args", Dict{.items = {{"n", int64_t{4}}}}}}};
  EXPECT_EQ(Decode(FileOf(file)).value().hints, (Hints{{"n", 4}}));
}

TEST(RankFileTest, AShortTextIsAFlag) {
  const Dict args{.items = {{"normalization", "RMSNorm"}, {"save", std::string(65, 'x')}}};
  const Dict file{.items = {{"model", Dict{}}, {"args", args}}};
  EXPECT_EQ(Decode(FileOf(file)).value().hints, (Hints{{"normalization.RMSNorm", 1}}));
}

TEST(RankFileTest, RefusesEveryTruncation) {
  const std::string whole = Fixture("trained");
  for (size_t size = 0; size < whole.size(); size += 7) {
    const auto rank = Decode(whole.substr(0, size));
    ASSERT_FALSE(rank) << size;
    EXPECT_EQ(rank.error().kind, ErrorKind::kSource);
  }
  EXPECT_FALSE(Decode("\x80\x02]."));  // a list
}

TEST(RankFileTest, KeysAreWhatStandsBehindTheChunk) {
  EXPECT_EQ(KeyInModel({"model", "a.b"}, "model.a.b"), "a.b");
  EXPECT_EQ(KeyInModel({"model12", "a", int64_t{3}}, "model12.a.3"), "a.3");
  EXPECT_EQ(KeyInModel({"model", ""}, "model."), "");
  EXPECT_FALSE(KeyInModel({"model"}, "model"));
  EXPECT_FALSE(KeyInModel({"optimizer", "model"}, "optimizer.model"));
  EXPECT_FALSE(KeyInModel({"model.x", "w"}, "model.x.w"));
  EXPECT_FALSE(KeyInModel({int64_t{0}, "w"}, "0.w"));
  EXPECT_FALSE(KeyInModel({}, "tensor"));
}

}  // namespace
}  // namespace reshard::megatron
