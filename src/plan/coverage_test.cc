#include "plan/coverage.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <map>

#include "view/lower.h"
#include "view/view.h"

namespace reshard {
namespace {

Coverage CoverageOf(const Shape& shape, const std::vector<View>& views) {
  Coverage coverage(shape);
  for (const View& view : views)
    EXPECT_TRUE(LowerWhole(view, [&](const Region& region) -> Result<> {
      coverage.Add(region);
      return {};
    }));
  return coverage;
}

// A region of random loops that stay within the shape, and take no element twice: along each
// dimension every loop's step reaches over all that the ones before it take.
Region RandomRegion(const Shape& shape) {
  Region region;
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    int64_t reach = 0;
    for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
      const int64_t step = reach + *rc::gen::inRange(1, 4);
      const int64_t most = (shape[dim] - 1 - reach) / step + 1;
      if (reach >= shape[dim] || most < 2) break;
      const int64_t extent = *rc::gen::inRange<int64_t>(2, most + 1);
      region.loops.insert(region.loops.begin(), {.extent = extent, .dim = dim, .step = step});
      reach += (extent - 1) * step;
    }
    region.start.push_back(*rc::gen::inRange<int64_t>(0, shape[dim] - reach));
  }
  return region;
}

using Counts = std::map<Shape, size_t>;

void Count(const Region& region, Counts* counts) {
  std::function<void(Shape, size_t)> visit = [&](Shape at, size_t loop) {
    if (loop == region.loops.size()) {
      ++(*counts)[at];
      return;
    }
    for (int64_t i = 0; i < region.loops[loop].extent; ++i) {
      visit(at, loop + 1);
      at[region.loops[loop].dim] += region.loops[loop].step;
    }
  };
  visit(region.start, 0);
}

// What one region takes, and what it leaves by the element: right; then a region is moved.
TEST(CoverageTest, AgreesWithCountingElementByElement) {
  EXPECT_TRUE(rc::check([] {
    Shape shape;
    for (int i = *rc::gen::inRange(1, 4); i > 0; --i) shape.push_back(*rc::gen::inRange(1, 13));
    std::vector<Region> regions;
    Counts counts;
    const size_t times = *rc::gen::inRange<size_t>(1, 3);
    for (size_t i = 0; i < times; ++i) regions.push_back(RandomRegion(shape));
    for (const Region& region : regions) Count(region, &counts);
    std::function<void(Shape, size_t)> complete = [&](Shape at, size_t dim) {
      if (dim == shape.size()) {
        for (size_t taken = counts[at]; taken < times; ++taken) regions.push_back({.start = at});
        return;
      }
      for (; at[dim] < shape[dim]; ++at[dim]) complete(at, dim + 1);
    };
    complete(Shape(shape.size(), 0), 0);
    const auto coverage = [&] {
      Coverage result(shape);
      for (const Region& region : regions) result.Add(region);
      return result;
    };
    RC_ASSERT(!coverage().FindFault(times));
    RC_ASSERT(coverage().FindFault(times + 1).has_value());

    Region& victim = regions[*rc::gen::inRange<size_t>(0, regions.size())];
    const size_t dim = *rc::gen::inRange<size_t>(0, shape.size());
    const int64_t length = ReachAlong(victim, dim).last - victim.start[dim];
    victim.start[dim] = *rc::gen::inRange<int64_t>(0, shape[dim] - length);
    counts.clear();
    for (const Region& region : regions) Count(region, &counts);
    const bool right =
        std::ranges::all_of(counts, [&](const auto& entry) { return entry.second == times; });
    const auto fault = coverage().FindFault(times);
    RC_ASSERT(fault.has_value() != right);
    if (!fault) return;
    RC_ASSERT(fault->taken != times);
    RC_ASSERT(fault->taken == (counts.contains(fault->element) ? counts[fault->element] : 0));
  }));
}

// q, k and v of groups, as a fused tensor holds them: strides that no size of the tensor changes.
TEST(CoverageTest, StridesOfAHugeTensor) {
  const int64_t groups = 1 << 20, width = 1 << 20;
  const Shape shape{groups * 640 + 7, width};
  const View fused = View::Source(0, DType::kFloat32, shape);
  const View grouped =
      *View::Reshape(*View::Slice(fused, 0, 7, groups * 640), {groups, 640, width});
  const View head = *View::Slice(fused, 0, 0, 7);
  const View q = *View::Slice(grouped, 1, 0, 512), k = *View::Slice(grouped, 1, 512, 64);
  const View v = *View::Slice(grouped, 1, 576, 64);
  EXPECT_FALSE(CoverageOf(shape, {head, q, k, v}).FindFault(1));

  // The two halves of each head's rotation apart, and each element of them.
  const View pairs = *View::Reshape(k, {groups, 32, 2, width});
  const View even = *View::Slice(pairs, 2, 0, 1), odd = *View::Slice(pairs, 2, 1, 1);
  EXPECT_FALSE(CoverageOf(shape, {head, q, even, odd, v}).FindFault(1));
  EXPECT_FALSE(CoverageOf(shape, {head, q, even, odd, v, v, odd, even, q, head}).FindFault(2));

  const View short_q = *View::Slice(grouped, 1, 1, 511);
  auto fault = CoverageOf(shape, {head, short_q, k, v}).FindFault(1);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->taken, 0u);
  EXPECT_EQ((fault->element[0] - 7) % 640, 0);

  const View last = *View::Slice(*View::Slice(fused, 0, shape[0] - 1, 1), 1, width - 1, 1);
  fault = CoverageOf(shape, {head, q, k, v, last}).FindFault(1);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->taken, 2u);
  EXPECT_EQ(fault->element, (Shape{shape[0] - 1, width - 1}));
}

// Steps of which none divides the other, in a tensor far too large to count.
TEST(CoverageTest, StepsWithoutACommonMeasure) {
  const int64_t n = 1 << 20;
  const Shape shape{2, 35 * n};
  const View whole = View::Source(0, DType::kInt8, shape);
  std::vector<View> views;
  for (const int64_t step : {5, 7}) {
    const View row = *View::Slice(whole, 0, step == 7, 1);
    const View table = *View::Reshape(row, {35 * n / step, step});
    for (int64_t i = 0; i < step; ++i) views.push_back(*View::Slice(table, 1, i, 1));
  }
  EXPECT_FALSE(CoverageOf(shape, views).FindFault(1));
  views.pop_back();
  const auto fault = CoverageOf(shape, views).FindFault(1);
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->element[0], 1);
  EXPECT_EQ(fault->element[1] % 7, 6);
}

TEST(CoverageTest, ManyRegionsOfOneTensor) {
  const int64_t rows = 400, columns = 500;
  Coverage coverage({rows * 2, columns * 3});
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t column = 0; column < columns; ++column)
      coverage.Add({.start = {row, column},
                    .loops = {{.extent = 2, .dim = 0, .step = rows},
                              {.extent = 3, .dim = 1, .step = columns}}});
  EXPECT_FALSE(coverage.FindFault(1));
  EXPECT_TRUE(coverage.FindFault(2));
}

TEST(CoverageTest, ScalarsAndEmptyTensors) {
  Coverage scalar({});
  EXPECT_TRUE(scalar.FindFault(1));
  scalar.Add(Region{});
  EXPECT_FALSE(scalar.FindFault(1));
  scalar.Add(Region{});
  ASSERT_TRUE(scalar.FindFault(1));
  EXPECT_EQ(scalar.FindFault(1)->taken, 2u);
  EXPECT_FALSE(Coverage({3, 0}).FindFault(1));
}

TEST(CoverageTest, AddTakesAnotherSeveralTimes) {
  Coverage rows({4}), padding({4});
  for (int i = 0; i < 3; ++i) rows.Add({.start = {0}, .loops = {{.extent = 3, .dim = 0}}});
  padding.Add({.start = {3}});
  rows.Add(padding, 3);
  EXPECT_EQ(static_cast<int64_t>(rows.taken()), 12);
  EXPECT_FALSE(rows.FindFault(3));
}

}  // namespace
}  // namespace reshard
