#include "recipe/fusion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <numeric>

#include "recipe/recipe_test_support.h"
#include "view/region.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

View Tensor(uint32_t number, Shape shape) {
  return View::Source(number, DType::kFloat32, std::move(shape));
}

std::string FaultOf(const std::vector<std::string>& parts, std::string_view whole,
                    std::string_view stacked = "") {
  const auto fusion = Fusion::Parse(parts, whole, stacked);
  return fusion ? std::string() : fusion.error().found;
}

TEST(FusionTest, GroupsOfQueryKeyAndValueByTheDefinition) {
  constexpr int64_t kGroups = 2, kPer = 3, kDim = 2, kHidden = 2;
  const Fusion fusion = *Fusion::Parse({"(g r d) *", "(g d) *", "(g d) *"}, "(g [r 1 1] d) *", "");
  const std::vector<Shape> shapes = {
      {kGroups * kPer * kDim, kHidden}, {kGroups * kDim, kHidden}, {kGroups * kDim, kHidden}};
  const View whole =
      *fusion.Fuse({{Tensor(0, shapes[0]), Tensor(1, shapes[1]), Tensor(2, shapes[2])}},
                   {{"g", kGroups}, {"d", kDim}});
  EXPECT_THAT(whole.shape(), ElementsAre(kGroups * (kPer + 2) * kDim, kHidden));
  std::vector<Element> expected;
  for (int64_t g = 0; g < kGroups; ++g)
    for (int64_t slot = 0; slot < kPer + 2; ++slot)
      for (int64_t d = 0; d < kDim; ++d)
        for (int64_t h = 0; h < kHidden; ++h) {
          const bool query = slot < kPer;
          const int64_t row = query ? (g * kPer + slot) * kDim + d : g * kDim + d;
          expected.emplace_back(query ? 0 : slot - kPer + 1, row * kHidden + h);
        }
  EXPECT_EQ(Elements(whole, shapes), expected);
}

TEST(FusionTest, ExpertsAreStackedAndTransposed) {
  const Fusion fusion = *Fusion::Parse({"f h"}, "e h f", "e");
  const std::vector<Shape> shapes = {{2, 3}, {2, 3}};
  const View whole = *fusion.Fuse({{Tensor(0, shapes[0])}, {Tensor(1, shapes[1])}}, {});
  EXPECT_THAT(whole.shape(), ElementsAre(2, 3, 2));
  std::vector<Element> expected;
  for (uint32_t e = 0; e < 2; ++e)
    for (int64_t h = 0; h < 3; ++h)
      for (int64_t f = 0; f < 2; ++f) expected.emplace_back(e, f * 3 + h);
  EXPECT_EQ(Elements(whole, shapes), expected);
}

TEST(FusionTest, AStackThatLacksItsLastIsAnError) {
  const Fusion fusion = *Fusion::Parse({"f h"}, "e f h", "e");
  const auto whole = fusion.Fuse({{Tensor(0, {2, 3})}, {Tensor(1, {2, 3})}}, {{"e", 3}});
  ASSERT_FALSE(whole);
  EXPECT_EQ(whole.error().kind, ErrorKind::kMapping);
  EXPECT_THAT(whole.error().found, HasSubstr("2 tensors along the axis 'e'"));
  EXPECT_THAT(whole.error().expected, HasSubstr("3"));
}

TEST(FusionTest, ZerosAreMadeAndGivenBack) {
  const Fusion fusion = *Fusion::Parse({"f", "zero f", "f"}, "([1 1 1] f)", "");
  const std::vector<Shape> shapes = {{2}, {2}};
  const View whole = *fusion.Fuse({{Tensor(0, {2}), Tensor(1, {2})}}, {});
  EXPECT_EQ(Elements(whole, shapes),
            (std::vector<Element>{
                {0, 0}, {0, 1}, {Region::kFill, 0}, {Region::kFill, 0}, {1, 0}, {1, 1}}));
  const auto parts = *fusion.Split(Tensor(0, {6}), {});
  ASSERT_EQ(parts[0].size(), 3u) << "the zeros are there to be checked";
  EXPECT_EQ(Elements(parts[0][1], {{6}}), (std::vector<Element>{{0, 2}, {0, 3}}));
}

TEST(FusionTest, RefusesMapsThatLoseOrDouble) {
  EXPECT_THAT(FaultOf({"f h", "f h"}, "f h"), HasSubstr("2 tensors for the 1 parts"));
  EXPECT_THAT(FaultOf({"f h"}, "([1 1] f) h"), HasSubstr("1 tensors for the 2 parts"));
  EXPECT_THAT(FaultOf({"f"}, "f h"), HasSubstr("lacks the axis 'h'"));
  EXPECT_THAT(FaultOf({"f h x"}, "f h"), HasSubstr("an axis that"));
  EXPECT_THAT(FaultOf({"f *"}, "f"), HasSubstr("an axis that"));
  EXPECT_THAT(FaultOf({"f", "f"}, "([2 1] f)"), HasSubstr("lacks the axis '2'"));
  EXPECT_THAT(FaultOf({"(g d)", "(g r d)"}, "(g [r 1] d)"), HasSubstr("lacks the axis 'r'"));
  EXPECT_THAT(FaultOf({"zero f", "f"}, "([1 1] f)"), HasSubstr("comes first"));
  EXPECT_THAT(FaultOf({"f h"}, "f h", "e"), HasSubstr("no axis 'e'"));
}

TEST(FusionTest, TensorsThatDoNotFitEachOtherAreErrors) {
  const Fusion pair = *Fusion::Parse({"f h", "f h"}, "([1 1] f) h", "");
  EXPECT_EQ(pair.Fuse({{Tensor(0, {2, 3}), Tensor(1, {2, 4})}}, {}).error().kind,
            ErrorKind::kMapping);
  EXPECT_FALSE(pair.Fuse({{Tensor(0, {2, 3}), Tensor(1, {3, 3})}}, {}));
  EXPECT_FALSE(pair.Split(Tensor(0, {5, 3}), {})) << "an odd number of rows";
  const Fusion stack = *Fusion::Parse({"f h"}, "e f h", "e");
  EXPECT_FALSE(stack.Fuse({{Tensor(0, {2, 3})}, {Tensor(1, {2, 4})}}, {}));
}

// Axes in random order, put together in random dimensions.
std::string RandomAxes(std::vector<std::string> names) {
  for (size_t i = 1; i < names.size(); ++i)
    std::swap(names[i], names[*rc::gen::inRange<size_t>(0, i + 1)]);
  std::string text;
  for (size_t i = 0; i < names.size();) {
    const size_t end = *rc::gen::inRange<size_t>(i + 1, names.size() + 1);
    std::string dim = names[i];
    for (size_t next = i + 1; next < end; ++next) dim += " " + names[next];
    text += end - i == 1 ? dim + " " : "(" + dim + ") ";
    i = end;
  }
  return text;
}

// The shape of a tensor with these axes.
Shape ShapeOf(const std::string& text, const Sizes& sizes) {
  const Axes axes = *Axes::Parse(text);
  Shape open;
  for (const Axis& axis : axes.Flat()) open.push_back(*SizeOf(axis, sizes));
  return axes.Close(Tensor(0, open))->shape();
}

// Fused and split again, every part is what it was: no element is lost, doubled or moved.
TEST(FusionTest, SplitIsTheInverseOfFuse) {
  EXPECT_TRUE(rc::check([] {
    Sizes sizes;
    for (const char* name : {"a", "b", "r"}) sizes[name] = *rc::gen::inRange(1, 5);
    const bool stacks = *rc::gen::arbitrary<bool>();
    const int64_t places = stacks ? *rc::gen::inRange(1, 4) : 1;
    const std::vector<std::vector<std::string>> ways = {
        {}, {"1", "1"}, {"r", "1"}, {"1", "r", "1"}, {"r", "1", "1"}};
    const auto joins = ways[*rc::gen::inRange<size_t>(0, ways.size())];
    std::vector<std::string> whole = {"a", "b"};
    if (!joins.empty()) whole.push_back(fmt::format("[{}]", fmt::join(joins, " ")));
    if (stacks) whole.push_back("e");
    std::vector<std::string> parts;
    for (size_t i = 0; i < std::max<size_t>(joins.size(), 1); ++i) {
      std::vector<std::string> own = {"a", "b"};
      if (!joins.empty() && joins[i] != "1") own.push_back(joins[i]);
      parts.push_back(RandomAxes(own));
    }
    const auto fusion = Fusion::Parse(parts, RandomAxes(whole), stacks ? "e" : "");
    RC_ASSERT(fusion.has_value());

    std::vector<Shape> shapes;
    std::vector<std::vector<View>> tensors;
    for (int64_t place = 0; place < places; ++place) {
      auto& row = tensors.emplace_back();
      for (const std::string& part : parts) {
        shapes.push_back(ShapeOf(part, sizes));
        row.push_back(Tensor(static_cast<uint32_t>(shapes.size() - 1), shapes.back()));
      }
    }
    const auto fused = fusion->Fuse(tensors, sizes);
    RC_ASSERT(fused.has_value());
    std::vector<Element> all, expected;
    for (uint32_t i = 0; i < shapes.size(); ++i) {
      const auto of_one = AllElements(i, shapes[i]);
      expected.insert(expected.end(), of_one.begin(), of_one.end());
    }
    all = Elements(*fused, shapes);
    std::ranges::sort(all);
    RC_ASSERT(all == expected);

    const auto split = fusion->Split(*fused, sizes);
    RC_ASSERT(split.has_value());
    RC_ASSERT(split->size() == tensors.size());
    uint32_t number = 0;
    for (const auto& row : *split)
      for (const View& part : row) {
        RC_ASSERT(part.shape() == shapes[number]);
        RC_ASSERT(Elements(part, shapes) == AllElements(number, shapes[number]));
        ++number;
      }
  }));
}

}  // namespace
}  // namespace reshard
