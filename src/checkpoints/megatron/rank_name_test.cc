#include "checkpoints/megatron/rank_name.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

namespace reshard::megatron {
namespace {

TEST(RankNameTest, SuffixesStandWhereThereAreSeveral) {
  const Rank rank{.tp = 1, .pp = 2, .ep = 3};
  EXPECT_EQ(FormatRankName(rank, {.tp = 2}), "mp_rank_01");
  EXPECT_EQ(FormatRankName(rank, {.tp = 2, .pp = 4}), "mp_rank_01_002");
  EXPECT_EQ(FormatRankName(rank, {.tp = 2, .ep = 4}), "mp_rank_01_003");
  EXPECT_EQ(FormatRankName(rank, {.tp = 2, .pp = 4, .ep = 4}), "mp_rank_01_002_003");
  EXPECT_EQ(FormatRankName({.tp = 100, .pp = 1000}, {.tp = 128, .pp = 1024}), "mp_rank_100_1000");
}

TEST(RankNameTest, RankOfUndoesFormat) {
  for (const RankSizes sizes :
       {RankSizes{.tp = 2}, RankSizes{.tp = 2, .pp = 4}, RankSizes{.tp = 2, .ep = 4},
        RankSizes{.tp = 2, .pp = 4, .ep = 4}}) {
    const Rank rank{.tp = 1, .pp = sizes.pp > 1 ? 2u : 0, .ep = sizes.ep > 1 ? 3u : 0};
    const std::string name = FormatRankName(rank, sizes);
    EXPECT_EQ(RankOf(ParseRankName(name).value(), sizes), rank) << name;
  }
}

TEST(RankNameTest, KeepsTheNumbersAndTheText) {
  const auto plain = ParseRankName("mp_rank_07");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->raw, "mp_rank_07");
  EXPECT_EQ(plain->tp, 7u);
  EXPECT_EQ(plain->suffixes(), 0);
  const auto both = ParseRankName("mp_rank_100_002_1000");
  ASSERT_TRUE(both);
  EXPECT_EQ(both->tp, 100u);
  EXPECT_EQ(both->first, 2u);
  EXPECT_EQ(both->second, 1000u);
  EXPECT_EQ(both->suffixes(), 2);
}

TEST(RankNameTest, RefusesWhatMegatronDoesNotWrite) {
  for (const char* name :
       {"", "mp_rank_", "mp_rank_0", "mp_rank_007", "mp_rank_00_", "mp_rank_00_01",
        "mp_rank_00_0001", "mp_rank_00_001_", "mp_rank_00_001_002_003", "mp_rank_00.bak",
        "mp_rank_-1", "mp_rank_+1", "mp_rank_00_model_states", "mp_rank_4294967296", "xmp_rank_00",
        "mp_rank_00 ", "release"})
    EXPECT_FALSE(ParseRankName(name)) << name;
}

RC_GTEST_PROP(RankNameTest, ParseUndoesFormat, ()) {
  const auto number = rc::gen::inRange<uint32_t>(0, 1'000'000'000);
  const auto tp = *number;
  const auto first = *rc::gen::maybe(number);
  const auto second = first ? *rc::gen::maybe(number) : rc::Maybe<uint32_t>();
  const auto optional = [](const auto& maybe) {
    return maybe ? std::optional<uint32_t>(*maybe) : std::nullopt;
  };
  const std::string name = FormatRankName(tp, optional(first), optional(second));
  const auto parsed = ParseRankName(name);
  RC_ASSERT(parsed.has_value());
  RC_ASSERT(parsed->tp == tp);
  RC_ASSERT(parsed->first == optional(first));
  RC_ASSERT(parsed->second == optional(second));
}

TEST(RankNameTest, ChunksAreModelAndANumber) {
  EXPECT_EQ(ParseChunk("model"), 0u);
  EXPECT_EQ(ParseChunk("model0"), 0u);
  EXPECT_EQ(ParseChunk("model12"), 12u);
  for (const char* key : {"", "mode", "model00", "model01", "model_0", "model1 ", "models",
                          "model4294967296", "optimizer"})
    EXPECT_FALSE(ParseChunk(key)) << key;
  EXPECT_EQ(FormatChunk(0, 1), "model");
  EXPECT_EQ(FormatChunk(0, 2), "model0");
  EXPECT_EQ(FormatChunk(1, 2), "model1");
}

TEST(RankNameTest, ATensorsKeyIsAnyText) {
  for (const std::string key : {"decoder.layers.0.mlp.linear_fc1.weight", "", "a/b", "/"}) {
    const std::string name = FormatTensorName({"mp_rank_01_002", "model1", key});
    const auto parts = ParseTensorName(name);
    ASSERT_TRUE(parts) << name;
    EXPECT_EQ(parts->rank, "mp_rank_01_002");
    EXPECT_EQ(parts->chunk, "model1");
    EXPECT_EQ(parts->key, key);
  }
  for (const char* name : {"", "mp_rank_00", "mp_rank_00/model", "mp_rank_0/model/w",
                           "mp_rank_00/optimizer/w", "/model/w", "model/w"})
    EXPECT_FALSE(ParseTensorName(name)) << name;
}

}  // namespace
}  // namespace reshard::megatron
