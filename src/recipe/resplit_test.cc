#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "recipe/bound_recipe.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kRecipe = R"(
name = "tied"
[[rule]]
hub = "embed"
here = "first"
map = "v h"
[[rule]]
hub = "layers.{layer}.w"
here = "l.{layer}.w"
[[copy]]
hub = "embed"
here = "last"
map = "v h"
when = "pp > 1"
[[copy]]
hub = "layers.{layer}.w"
here = "again.{layer}.w"
when = "pp > 2"
)";

class ResplitTest : public testing::Test {
 protected:
  Mapping With(const std::vector<std::string>& names) {
    Mapping mapping;
    for (const std::string& name : names)
      mapping.tensors.push_back({name, View::Source(static_cast<uint32_t>(mapping.tensors.size()),
                                                    DType::kFloat32, Shape{4, 2})});
    return mapping;
  }
  BoundRecipe Bind(int64_t pp) { return *BoundRecipe::Bind(recipe_, config_, {{"pp", pp}}); }
  std::vector<std::string> Names(const Mapping& mapping) {
    std::vector<std::string> names;
    for (const NamedView& tensor : mapping.tensors) names.push_back(tensor.name);
    return names;
  }

  const Recipe recipe_ = *Recipe::Parse(kRecipe, "tied.toml");
  const ModelConfig config_;
};

TEST_F(ResplitTest, CopiesBecomeChecks) {
  Mapping mapping = With({"first", "l.0.w", "last"});
  ASSERT_TRUE(Resplit(Bind(2), Bind(1), &mapping));
  EXPECT_THAT(Names(mapping), ElementsAre("first", "l.0.w"));
  ASSERT_EQ(mapping.checks.size(), 1u);
  EXPECT_EQ(mapping.checks[0].name, "last");
  EXPECT_EQ(mapping.checks[0].equals.source(), 0u);
}

TEST_F(ResplitTest, CopiesAreMadeWithTheirNumbers) {
  Mapping mapping = With({"first", "l.0.w", "l.1.w"});
  ASSERT_TRUE(Resplit(Bind(1), Bind(3), &mapping));
  EXPECT_THAT(Names(mapping),
              ElementsAre("again.0.w", "again.1.w", "first", "l.0.w", "l.1.w", "last"));
  EXPECT_EQ(mapping.tensors[1].view.inputs()[0].source(), 2u);
  EXPECT_EQ(mapping.tensors[1].view.op(), View::Op::kRepeat);
  EXPECT_THAT(mapping.checks, IsEmpty());
}

TEST_F(ResplitTest, ThereAndBackIsTheIdentity) {
  Mapping mapping = With({"first", "l.0.w"});
  ASSERT_TRUE(Resplit(Bind(1), Bind(3), &mapping));
  ASSERT_TRUE(Resplit(Bind(3), Bind(1), &mapping));
  EXPECT_THAT(Names(mapping), ElementsAre("first", "l.0.w"));
  EXPECT_EQ(mapping.checks.size(), 2u);
}

TEST_F(ResplitTest, ACopyOfNothingIsAnError) {
  Mapping mapping = With({"l.0.w", "last"});
  const auto done = Resplit(Bind(2), Bind(1), &mapping);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().tensor, "last");
  EXPECT_THAT(done.error().found, HasSubstr("not there"));
}

TEST_F(ResplitTest, ACopyOfAnotherShapeIsAnError) {
  Mapping mapping = With({"first", "last"});
  mapping.tensors[1].view = *View::Slice(mapping.tensors[1].view, 0, 0, 3);
  EXPECT_FALSE(Resplit(Bind(2), Bind(1), &mapping));
}

TEST_F(ResplitTest, OnlyWhatIsKeptAsItIsCanBeCopied) {
  const Recipe fused = *Recipe::Parse(R"toml(
name = "fused"
[[rule]]
hub = ["a", "b"]
here = "ab"
map = "f, f -> ([1 1] f)"
[[copy]]
hub = "a"
here = "a2"
)toml",
                                      "fused.toml");
  const BoundRecipe bound = *BoundRecipe::Bind(fused, config_, {});
  Mapping mapping = With({"ab", "a2"});
  const auto done = Resplit(bound, bound, &mapping);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().help, HasSubstr("the hub's layout"));
}

}  // namespace
}  // namespace reshard
