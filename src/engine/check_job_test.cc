#include "engine/check_job.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "engine/engine_test_support.h"

namespace reshard {
namespace {

using testing::HasSubstr;

// Two copies of a tensor of several windows and two blocks, in chunks of different kinds; elements
// of three bytes, which no window's edge must cut.
class CheckJobTest : public testing::Test {
 protected:
  static constexpr int64_t kColumns = 1'700'000;

  void Open(const std::string& second) {
    source_.Add("first", DType::kFloat6E2M3x4, {1, kColumns}, elements_);
    source_.Add("second", DType::kFloat6E2M3x4, {1, kColumns}, second,
                {{.start = {0, 0}, .extent = {1, 700'000}},
                 {.start = {0, 700'000}, .extent = {1, kColumns - 700'000}}});
    source_.Open();
  }

  // Compares all blocks, last one first.
  Result<> Compare(const Check& check) {
    Plan plan;
    plan.checks.push_back(check);
    const auto layouts = ChunkLayouts::Locate(ChunksOf(plan, source_.catalog()), source_, 1, &stop_);
    EXPECT_TRUE(layouts);
    const ChunkIndex index(source_.catalog());
    WindowFiller filler(source_, index, *layouts);
    const CheckJob job(check);
    blocks_ = job.block_count();
    for (uint64_t block = blocks_; block-- > 0;)
      if (auto same = job.CompareBlock(block, {source_, filler, bytes_done_, stop_}); !same)
        return same;
    return {};
  }

  Check OfBoth() const {
    return {.name = "second",
            .view = source_.Of("second"),
            .equals = source_.Of("first"),
            .why = "a copy of tp rank 0's"};
  }

  const std::string elements_ = Noise(3 * kColumns, 1);
  FakeSource source_;
  uint64_t blocks_ = 0;
  std::atomic<uint64_t> bytes_done_ = 0;
  std::atomic<bool> stop_ = false;
};

TEST_F(CheckJobTest, EqualIsEqual) {
  Open(elements_);
  const auto same = Compare(OfBoth());
  EXPECT_TRUE(same) << same.error().ToString();
  EXPECT_EQ(blocks_, 2u);
  EXPECT_EQ(bytes_done_, 3u * kColumns);
}

TEST_F(CheckJobTest, OneBitAnywhereIsADifference) {
  for (const size_t at :
       {size_t{0}, kWindowBytes - 1, kWindowBytes + 1, size_t{kBlockBytes}, elements_.size() - 1}) {
    std::string second = elements_;
    second[at] ^= 4;
    source_ = {};
    Open(second);
    const auto same = Compare(OfBoth());
    ASSERT_FALSE(same) << at;
    const Error& error = same.error();
    EXPECT_EQ(error.kind, ErrorKind::kSource);
    EXPECT_EQ(error.tensor, "second");
    EXPECT_EQ(error.file, "fake/memory");
    EXPECT_THAT(error.found, HasSubstr(fmt::format("element [0, {}] of 'second' is 0x", at / 3)));
    EXPECT_THAT(error.expected, HasSubstr(fmt::format("element [0, {}] of 'first'", at / 3)));
    EXPECT_THAT(error.expected, HasSubstr("a copy of tp rank 0's"));
  }
}

TEST_F(CheckJobTest, NamesThePlaceInTheSourceAndTheValues) {
  source_.Add("w", DType::kFloat32, {2, 2}, BytesOfValues<float>({1, 2, 3, 0.5}));
  source_.Open();
  const View row = *View::Slice(source_.Of("w"), 0, 1, 1);
  const auto same = Compare({.name = "w",
                             .view = *View::Reshape(*View::Slice(row, 1, 1, 1), {1}),
                             .equals = *View::Fill(DType::kFloat32, {1}),
                             .why = "padding is zero"});
  ASSERT_FALSE(same);
  EXPECT_EQ(same.error().found, "element [1, 1] of 'w' is 0.5 (0x3f000000)");
  EXPECT_EQ(same.error().expected,
            "equal to 0 (0x00000000), what the recipe fills in: padding is zero");
}

TEST_F(CheckJobTest, NothingIsEqualToNothing) {
  source_.Add("none", DType::kFloat32, {0, 3}, "");
  source_.Open();
  EXPECT_TRUE(Compare({.name = "none",
                       .view = source_.Of("none"),
                       .equals = *View::Fill(DType::kFloat32, {0, 3})}));
  EXPECT_EQ(blocks_, 0u);
}

TEST_F(CheckJobTest, StopsBetweenWindowsAndGivesTheSourcesError) {
  Open(elements_);
  stop_ = false;
  source_.on_read = [&](uint64_t, size_t) -> Result<> {
    stop_ = true;
    return {};
  };
  EXPECT_TRUE(Compare(OfBoth()));
  EXPECT_LE(bytes_done_, kWindowBytes);

  stop_ = false;
  source_.on_read = [](uint64_t, size_t) -> Result<> {
    return std::unexpected(Error{.kind = ErrorKind::kSource, .found = "a bad sector"});
  };
  const auto failed = Compare(OfBoth());
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().found, "a bad sector");
}

}  // namespace
}  // namespace reshard
