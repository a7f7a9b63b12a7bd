#include "checkpoints/megatron/rank_grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace reshard::megatron {
namespace {

using ::testing::HasSubstr;

Result<RankGrid> GridOf(const std::vector<std::string>& names) {
  std::vector<RankName> ranks;
  for (const std::string& name : names) ranks.push_back(ParseRankName(name).value());
  return MakeGrid(&ranks, "ckpt/release");
}

// What the error says was found.
std::string Fault(const Result<RankGrid>& grid) {
  EXPECT_FALSE(grid);
  if (grid) return "";
  EXPECT_EQ(grid.error().kind, ErrorKind::kSource);
  EXPECT_EQ(grid.error().file, "ckpt/release");
  return grid.error().found;
}

TEST(RankGridTest, CountsRanksWhateverTheirOrder) {
  const auto tp = GridOf({"mp_rank_01", "mp_rank_00"});
  ASSERT_TRUE(tp);
  EXPECT_EQ(tp->tp_size, 2u);
  EXPECT_EQ(tp->suffixes, 0);
  const auto both = GridOf({"mp_rank_00_001_000", "mp_rank_00_000_000", "mp_rank_00_000_001",
                            "mp_rank_00_001_001", "mp_rank_00_000_002", "mp_rank_00_001_002"});
  ASSERT_TRUE(both) << both.error().ToString();
  EXPECT_EQ(both->tp_size, 1u);
  EXPECT_EQ(both->first_size, 2u);
  EXPECT_EQ(both->second_size, 3u);
  EXPECT_EQ(SizesOf(*both, {}), (RankSizes{.tp = 1, .pp = 2, .ep = 3}));
}

TEST(RankGridTest, SortsByNumberWhereTheTextIsShorter) {
  std::vector<RankName> names;
  for (int tp = 100; tp >= 0; --tp) names.push_back(ParseRankName(FormatRankName(tp)).value());
  ASSERT_TRUE(MakeGrid(&names, ""));
  EXPECT_EQ(names.front().raw, "mp_rank_00");
  EXPECT_EQ(names.back().raw, "mp_rank_100");
}

TEST(RankGridTest, NamesTheFirstHole) {
  EXPECT_THAT(Fault(GridOf({"mp_rank_00", "mp_rank_02"})), HasSubstr("mp_rank_01 "));
  EXPECT_THAT(Fault(GridOf({"mp_rank_01"})), HasSubstr("mp_rank_00 "));
  EXPECT_THAT(Fault(GridOf({"mp_rank_00_000", "mp_rank_00_001", "mp_rank_01_001"})),
              HasSubstr("mp_rank_01_000 "));
  EXPECT_THAT(Fault(GridOf({"mp_rank_00_000", "mp_rank_00_001", "mp_rank_01_000"})),
              HasSubstr("mp_rank_01_001 "));
  EXPECT_THAT(Fault(GridOf({"mp_rank_00_000_000", "mp_rank_00_001_001"})),
              HasSubstr("mp_rank_00_000_001 "));
  EXPECT_THAT(Fault(GridOf({"mp_rank_00", "mp_rank_999999999"})), HasSubstr("mp_rank_01 "));
}

TEST(RankGridTest, ASuffixThatCountsToOneIsAHole) {
  EXPECT_THAT(Fault(GridOf({"mp_rank_00_000"})), HasSubstr("mp_rank_00_001 "));
  EXPECT_THAT(Fault(GridOf({"mp_rank_00_000_000", "mp_rank_00_001_000"})),
              HasSubstr("mp_rank_00_000_001 "));
  EXPECT_THAT(Fault(GridOf({"mp_rank_00_000_000", "mp_rank_00_000_001"})),
              HasSubstr("mp_rank_00_001_000 "));
}

TEST(RankGridTest, MixedSpellingsAreNamed) {
  EXPECT_THAT(Fault(GridOf({"mp_rank_01_000", "mp_rank_00"})),
              HasSubstr("both mp_rank_00 and mp_rank_01_000"));
  EXPECT_THAT(Fault(GridOf({"mp_rank_00_000", "mp_rank_00_000_001"})), HasSubstr("both"));
}

TEST(RankGridTest, HintsSayWhatALoneSuffixCounts) {
  const auto grid = GridOf({"mp_rank_00_000", "mp_rank_00_001"});
  ASSERT_TRUE(grid);
  const std::string pp(kPpHint);
  const std::string ep(kEpHint);
  EXPECT_EQ(SizesOf(*grid, {{pp, 2}, {ep, 1}}), (RankSizes{.tp = 1, .pp = 2}));
  EXPECT_EQ(SizesOf(*grid, {{ep, 2}}), (RankSizes{.tp = 1, .ep = 2}));
  EXPECT_FALSE(SizesOf(*grid, {}));
  EXPECT_FALSE(SizesOf(*grid, {{pp, 2}, {ep, 2}}));
}

TEST(RankGridTest, HintsTellThatTheLastRanksAreGone) {
  const auto fault = [](const RankGrid& grid, const Hints& hints) {
    const auto complete = CheckComplete(grid, hints, "ckpt/release");
    return complete ? "" : complete.error().found;
  };
  const std::string tp(kTpHint);
  const std::string pp(kPpHint);
  const std::string ep(kEpHint);
  EXPECT_THAT(fault({.tp_size = 2}, {{tp, 4}}), HasSubstr("mp_rank_02 "));
  const RankGrid lone{.suffixes = 1, .tp_size = 2, .first_size = 2};
  EXPECT_THAT(fault(lone, {{tp, 4}}), HasSubstr("mp_rank_02_000 "));
  EXPECT_THAT(fault(lone, {{tp, 2}, {pp, 3}}), HasSubstr("mp_rank_00_002 "));
  EXPECT_THAT(fault(lone, {{tp, 2}, {ep, 3}}), HasSubstr("mp_rank_00_002 "));
  const RankGrid both{.suffixes = 2, .tp_size = 1, .first_size = 2, .second_size = 2};
  EXPECT_THAT(fault(both, {{pp, 3}}), HasSubstr("mp_rank_00_002_000 "));
  EXPECT_THAT(fault(both, {{ep, 3}}), HasSubstr("mp_rank_00_000_002 "));
  // Fewer ranks than there are, or an axis that the names would have: args that were left as they
  // were when another program split the model anew.
  EXPECT_EQ(fault({.tp_size = 2}, {{tp, 1}, {pp, 2}, {ep, -5}}), "");
}

}  // namespace
}  // namespace reshard::megatron
