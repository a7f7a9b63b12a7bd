#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <vector>

#include "view/catalog_builder.h"

namespace reshard {
namespace {

struct TestBox {
  std::vector<int64_t> start;
  std::vector<int64_t> extent;
};

Result<> Check(const std::vector<int64_t>& shape, const std::vector<TestBox>& boxes,
               int times = 1) {
  std::vector<BoxView> views;
  for (const TestBox& box : boxes) views.push_back({box.start, box.extent});
  return CheckTiling(shape, views, static_cast<size_t>(times));
}

// The definition, element by element.
bool CoversByCounting(const std::vector<int64_t>& shape, const std::vector<TestBox>& boxes,
                      int times) {
  const int64_t rows = shape[0], columns = shape[1];
  std::vector<int> count(static_cast<size_t>(rows * columns), 0);
  for (const TestBox& box : boxes)
    for (int64_t r = box.start[0]; r < box.start[0] + box.extent[0]; ++r)
      for (int64_t c = box.start[1]; c < box.start[1] + box.extent[1]; ++c) {
        if (r < 0 || c < 0 || r >= rows || c >= columns) return false;
        ++count[static_cast<size_t>(r * columns + c)];
      }
  return std::ranges::all_of(count, [&](int n) { return n == times; });
}

// Straight cuts at random, down to `depth`.
void CutAtRandom(const TestBox& box, int depth, std::vector<TestBox>* out) {
  const size_t dim = *rc::gen::inRange<size_t>(0, 2);
  if (depth == 0 || box.extent[dim] < 2) {
    out->push_back(box);
    return;
  }
  const int64_t at = *rc::gen::inRange<int64_t>(1, box.extent[dim]);
  TestBox low = box, high = box;
  low.extent[dim] = at;
  high.start[dim] += at;
  high.extent[dim] -= at;
  CutAtRandom(low, depth - 1, out);
  CutAtRandom(high, depth - 1, out);
}

TEST(TilingTest, AcceptsWhatCutsMakeAndAgreesWithCountingWhenDamaged) {
  EXPECT_TRUE(rc::check([] {
    const std::vector<int64_t> shape{*rc::gen::inRange(1, 9), *rc::gen::inRange(1, 9)};
    std::vector<TestBox> boxes;
    CutAtRandom({{0, 0}, shape}, *rc::gen::inRange(0, 5), &boxes);
    RC_ASSERT(Check(shape, boxes).has_value());

    const size_t victim = *rc::gen::inRange<size_t>(0, boxes.size());
    const size_t dim = *rc::gen::inRange<size_t>(0, 2);
    switch (*rc::gen::inRange(0, 4)) {
      case 0:
        boxes.erase(boxes.begin() + static_cast<std::ptrdiff_t>(victim));
        break;
      case 1:
        boxes.push_back(boxes[victim]);
        break;
      case 2:
        boxes[victim].start[dim] += *rc::gen::inRange(-2, 3);
        break;
      case 3:
        boxes[victim].extent[dim] += *rc::gen::inRange(-1, 3);
        break;
    }
    boxes.erase(
        std::remove_if(boxes.begin(), boxes.end(),
                       [](const TestBox& box) { return box.extent[0] <= 0 || box.extent[1] <= 0; }),
        boxes.end());
    RC_ASSERT(Check(shape, boxes).has_value() == CoversByCounting(shape, boxes, 1));
  }));
}

// Layers of different cuts on top of each other.
TEST(TilingTest, SeveralTimesAgreesWithCounting) {
  EXPECT_TRUE(rc::check([] {
    const std::vector<int64_t> shape{*rc::gen::inRange(1, 7), *rc::gen::inRange(1, 7)};
    const int times = *rc::gen::inRange(1, 4);
    std::vector<TestBox> boxes;
    for (int i = 0; i < times; ++i) CutAtRandom({{0, 0}, shape}, *rc::gen::inRange(0, 4), &boxes);
    RC_ASSERT(Check(shape, boxes, times).has_value());
    RC_ASSERT(!Check(shape, boxes, times + 1));

    TestBox& victim = boxes[*rc::gen::inRange<size_t>(0, boxes.size())];
    TestBox& other = boxes[*rc::gen::inRange<size_t>(0, boxes.size())];
    std::swap(victim.start, other.start);
    bool inside = true;
    for (const TestBox& box : boxes)
      for (size_t dim = 0; dim < 2; ++dim) inside &= box.start[dim] + box.extent[dim] <= shape[dim];
    RC_ASSERT(Check(shape, boxes, times).has_value() ==
              (inside && CoversByCounting(shape, boxes, times)));
  }));
}

// No straight cut parts these five: the tiling of a pinwheel.
TEST(TilingTest, PinwheelIsATiling) {
  std::vector<TestBox> boxes = {
      {{0, 0}, {1, 2}}, {{0, 2}, {2, 1}}, {{2, 1}, {1, 2}}, {{1, 0}, {2, 1}}, {{1, 1}, {1, 1}}};
  EXPECT_TRUE(Check({3, 3}, boxes));
  boxes[4].start = {0, 0};  // The same volume, but a hole in the middle and an overlap.
  EXPECT_FALSE(Check({3, 3}, boxes));
}

TEST(TilingTest, ScalarsAndEmptyTensors) {
  EXPECT_TRUE(Check({}, {{{}, {}}}));
  EXPECT_FALSE(Check({}, {}));
  EXPECT_FALSE(Check({}, {{{}, {}}, {{}, {}}}));
  EXPECT_TRUE(Check({0, 5}, {}));
}

TEST(TilingTest, NamesTheHoleAndTheOverlap) {
  auto hole = Check({4, 2}, {{{0, 0}, {1, 2}}, {{2, 0}, {2, 2}}});
  ASSERT_FALSE(hole);
  EXPECT_THAT(hole.error().found, testing::HasSubstr("[0, 0]"));
  auto overlap = Check({2, 2}, {{{0, 0}, {2, 2}}, {{1, 0}, {1, 2}}});
  ASSERT_FALSE(overlap);
  EXPECT_EQ(overlap.error().kind, ErrorKind::kSource);
}

TEST(TilingTest, OutsideAndHugeBoxes) {
  const int64_t big = INT64_MAX;
  EXPECT_FALSE(Check({4}, {{{2}, {big}}}));
  EXPECT_FALSE(Check({4}, {{{-1}, {5}}}));
  EXPECT_FALSE(Check({big}, {{{0}, {big}}, {{0}, {big}}, {{0}, {big}}}));
}

}  // namespace
}  // namespace reshard
