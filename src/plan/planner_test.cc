#include "plan/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reshard {
namespace {

TEST(PackFilesTest, FillsGreedilyAndGivesLargeTensorsTheirOwnFile) {
  const auto tensor = [](std::string name, int64_t bytes) {
    return NamedView{std::move(name), View::Source(0, DType::kInt8, {bytes})};
  };
  const std::vector<NamedView> tensors = {tensor("l.10", 4), tensor("l.2", 4), tensor("l.3", 20),
                                          tensor("l.4", 1)};
  EXPECT_THAT(PackFiles(tensors, Packing::kNatural, 8),
              testing::ElementsAre(FileContent{1}, FileContent{2}, FileContent{3, 0}));
  EXPECT_THAT(PackFiles(tensors, Packing::kLexicographic, 8),
              testing::ElementsAre(FileContent{0, 1}, FileContent{2}, FileContent{3}));
  EXPECT_TRUE(PackFiles({}, Packing::kNatural, 8).empty());
}

TEST(NaturalLessTest, NumbersCountAsNumbers) {
  EXPECT_TRUE(NaturalLess("layer.2.w", "layer.10.w"));
  EXPECT_FALSE(NaturalLess("layer.10.w", "layer.2.w"));
  EXPECT_TRUE(NaturalLess("a01", "a1"));
  EXPECT_FALSE(NaturalLess("a1", "a01"));
  EXPECT_TRUE(NaturalLess("a", "a1"));
  EXPECT_FALSE(NaturalLess("x", "x"));
  EXPECT_TRUE(NaturalLess("a9", "a99999999999999999999999"));
}

TEST(ApplyCastsTest, FirstOverrideWinsAndIntegersStay) {
  Mapping mapping;
  mapping.tensors = {{"norm.w", View::Source(0, DType::kFloat32, {1})},
                     {"w", View::Source(1, DType::kFloat32, {1})},
                     {"ids", View::Source(2, DType::kInt64, {1})}};
  const CastRules rules{.all = DType::kBFloat16,
                        .overrides = {{*Regex::Compile("norm"), DType::kFloat32},
                                      {*Regex::Compile("w$"), DType::kFloat16}}};
  ASSERT_TRUE(ApplyCasts(rules, &mapping));
  EXPECT_EQ(mapping.tensors[0].view.dtype(), DType::kFloat32);
  EXPECT_EQ(mapping.tensors[1].view.dtype(), DType::kFloat16);
  EXPECT_EQ(mapping.tensors[2].view.dtype(), DType::kInt64);
}

TEST(ApplyCastsTest, ScalesAndNamesThatAreKeptStay) {
  Mapping mapping;
  uint32_t number = 0;
  const auto add = [&](std::string name, DType dtype) {
    mapping.tensors.push_back({std::move(name), View::Source(number++, dtype, {1})});
  };
  add("up.weight", DType::kFloat8E4M3FN);
  add("up.weight_scale_inv", DType::kFloat32);
  add("up.bias", DType::kFloat32);
  add("up.upscale", DType::kFloat32);
  add("down.weight", DType::kFloat32);
  add("down.weight_scale", DType::kFloat32);
  add("logit_scale", DType::kFloat32);
  add("gate.routing", DType::kFloat32);
  add("gate.narrow_routing", DType::kBFloat16);
  const CastRules rules{.all = DType::kBFloat16, .keep = {*Pattern::Parse("{name*}routing")}};
  ASSERT_TRUE(ApplyCasts(rules, &mapping));
  std::vector<std::string> kept;
  for (const NamedView& tensor : mapping.tensors)
    if (tensor.view.dtype() == DType::kFloat32) kept.push_back(tensor.name);
  EXPECT_EQ(kept, (std::vector<std::string>{"up.weight_scale_inv", "gate.routing"}));
  EXPECT_EQ(mapping.kept_types.size(), 2u);  // what is of the type already is not counted
  for (const auto& [why, count] : mapping.kept_types) EXPECT_EQ(count, 1u) << why;
}

}  // namespace
}  // namespace reshard
