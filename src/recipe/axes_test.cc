#include "recipe/axes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "recipe/recipe_test_support.h"

namespace reshard {
namespace {

using testing::HasSubstr;

Axes A(std::string_view text) { return *Axes::Parse(text); }

View Tensor(Shape shape) { return View::Source(0, DType::kFloat32, std::move(shape)); }

TEST(AxesTest, NamesNumbersGroupsPartsAndTheRest) {
  const Axes axes = A("(g [r 1 1] d) h *");
  const auto flat = axes.Flat();
  ASSERT_EQ(flat.size(), 4u);
  EXPECT_EQ(flat[0].name, "g");
  ASSERT_EQ(flat[1].parts.size(), 3u);
  EXPECT_EQ(flat[1].parts[0].name, "r");
  EXPECT_EQ(flat[1].parts[2].number, 1);
  EXPECT_TRUE(axes.rest());
  EXPECT_TRUE(axes.Has("d"));
  EXPECT_FALSE(axes.Has("r")) << "a size of a part, not an axis";
  EXPECT_TRUE(A("vocab h").Leads("vocab"));
  EXPECT_FALSE(A("h vocab").Leads("vocab"));
  EXPECT_FALSE(A("(vocab x) h").Leads("vocab"));
  EXPECT_TRUE(A("*").Flat().empty());
}

TEST(AxesTest, RefusesWhatIsNotAxes) {
  for (const char* bad : {"(f h",
                          "f)",
                          "f h)",
                          "[1 1",
                          "([1 1) f",
                          "[1]",
                          "[]",
                          "()",
                          "* f",
                          "* *",
                          "(f *)",
                          "f f",
                          "(f f)",
                          "[1 1] [1 1]",
                          "0",
                          "-1",
                          "F",
                          "f-h",
                          "99999999999999999999",
                          "2x",
                          "((f) h)",
                          "[1 [1 1]]",
                          "f,h",
                          "]",
                          ")"})
    EXPECT_EQ(KindOf(Axes::Parse(bad)), ErrorKind::kUsage) << bad;
}

TEST(AxesTest, SolvesWhatTheShapeSays) {
  Sizes sizes{{"g", 2}, {"d", 5}};
  ASSERT_TRUE(A("(g [r 1 1] d) h *").Solve({50, 7, 3}, &sizes));
  EXPECT_EQ(sizes.at("r"), 3);
  EXPECT_EQ(sizes.at("h"), 7);

  Sizes twice{{"g", 2}, {"d", 5}};
  ASSERT_TRUE(A("(g [r r 1] d)").Solve({50}, &twice));
  EXPECT_EQ(twice.at("r"), 2) << "two parts of one size share what is left";
}

TEST(AxesTest, ShapesThatDoNotFitAreNamed) {
  const auto fault = [](std::string_view axes, Shape shape, Sizes sizes) {
    const auto solved = A(axes).Solve(shape, &sizes);
    return solved ? std::string() : solved.error().found + " | " + solved.error().expected;
  };
  EXPECT_THAT(fault("f h", {3}, {}), HasSubstr("'f h'"));
  EXPECT_THAT(fault("f", {3, 4}, {}), HasSubstr("[3, 4]"));
  EXPECT_THAT(fault("f h", {6, 4}, {{"h", 5}}), HasSubstr("dimension 1"));
  EXPECT_THAT(fault("(a b)", {6}, {}), HasSubstr("'a' or 'b'"));
  EXPECT_THAT(fault("(a 4)", {6}, {}), HasSubstr("a multiple of 4"));
  EXPECT_THAT(fault("[a b]", {6}, {}), HasSubstr("'a' or 'b'"));
  EXPECT_THAT(fault("[a 7]", {6}, {}), HasSubstr("can be"));
  EXPECT_THAT(fault("[a a 1]", {6}, {}), HasSubstr("can be"));
}

TEST(AxesTest, HostileSizesAreErrors) {
  const int64_t most = INT64_MAX;
  const auto solve = [](std::string_view axes, Shape shape, Sizes sizes) {
    return A(axes).Solve(shape, &sizes).has_value();
  };
  EXPECT_FALSE(solve("(a b)", {6}, {{"a", most}, {"b", 2}}));
  EXPECT_FALSE(solve("[a b]", {6}, {{"a", most}, {"b", most}}));
  EXPECT_FALSE(solve("[a b c]", {6}, {{"a", most}, {"b", most}}));
  EXPECT_FALSE(solve("a", {6}, {{"a", -6}}));
  EXPECT_FALSE(solve("(a b)", {6}, {{"a", 0}}));
  EXPECT_FALSE(solve("[a b]", {6}, {{"a", -3}}));
}

// Cut along any axis, in pieces of any length, and joined again, a tensor is what it was.
TEST(AxesTest, JoinIsTheInverseOfCut) {
  EXPECT_TRUE(rc::check([] {
    const std::string text = *rc::gen::element<std::string>("a b c", "(a b) c", "a (b c)",
                                                            "(a b c)", "(a [1 2] b) c", "c b *");
    const Axes axes = A(text);
    Sizes sizes;
    for (const char* name : {"a", "b", "c"}) sizes[name] = *rc::gen::inRange(1, 6);
    Shape shape;
    for (const Axis& axis : axes.Flat()) shape.push_back(*SizeOf(axis, sizes));
    if (axes.rest()) shape.push_back(3);
    const View whole = *axes.Close(Tensor(shape));
    std::string name;
    while (name.empty()) {
      const auto flat = axes.Flat();
      name = flat[*rc::gen::inRange<size_t>(0, flat.size())].name;
    }
    std::vector<View> pieces;
    // Pieces of unlike length, none of them empty.
    for (int64_t start = 0; start < sizes[name];) {
      const int64_t length = *rc::gen::inRange<int64_t>(1, sizes[name] - start + 1);
      pieces.push_back(*axes.Cut(whole, sizes, name, start, length));
      start += length;
    }
    const auto joined = axes.Join(pieces, sizes, name);
    RC_ASSERT(joined.has_value());
    RC_ASSERT(joined->shape() == whole.shape());
    RC_ASSERT(Elements(*joined, {shape}) == Elements(whole, {shape}));
  }));
}

TEST(AxesTest, CutTakesEachPartOfWhatStandsSideBySide) {
  // Rows 0 and 1 are of the first part, 2 and 3 of the second.
  const View shard = *A("([1 1] f) h").Cut(Tensor({4, 1}), {{"f", 2}, {"h", 1}}, "f", 1, 1);
  EXPECT_EQ(Elements(shard, {{4, 1}}), (std::vector<Element>{{0, 1}, {0, 3}}));
}

}  // namespace
}  // namespace reshard
