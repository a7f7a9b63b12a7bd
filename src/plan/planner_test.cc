#include "plan/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "view/catalog_builder.h"

namespace reshard {
namespace {

Catalog TwoTensors() {
  CatalogBuilder builder;
  builder.AddFile({.path = "f", .size = 1024});
  builder.AddTensor("a", DType::kFloat32, {4, 2});
  builder.AddWhole(0, 0, 32);
  builder.AddTensor("b", DType::kInt64, {3});
  builder.AddWhole(0, 32, 24);
  return *std::move(builder).Build("ckpt");
}

View SourceOf(const Catalog& catalog, uint32_t index) {
  const Tensor& tensor = catalog.tensors()[index];
  return View::Source(index, tensor.dtype, tensor.shape);
}

// One file of an 8-byte header and the given tensors, one after the other.
Plan PlanOf(const std::vector<NamedView>& tensors) {
  FileLayout layout{.size = 8, .literals = {{0, "headhead"}}};
  FileContent content;
  for (size_t i = 0; i < tensors.size(); ++i) {
    layout.slots.push_back(layout.size);
    layout.size += Slot{.view = tensors[i].view}.byte_size();
    content.push_back(i);
  }
  Plan plan;
  plan.files.push_back(FillSlots("out", std::move(layout), content, tensors));
  return plan;
}

TEST(PlanCheckTest, AcceptsEveryElementOnce) {
  const Catalog catalog = TwoTensors();
  EXPECT_TRUE(CheckPlan(PlanOf({{"a", SourceOf(catalog, 0)}, {"b", SourceOf(catalog, 1)}}), catalog));

  const View a = SourceOf(catalog, 0);
  const View swapped =
      *View::Concat({*View::Slice(a, 0, 2, 2), *View::Slice(a, 0, 0, 2)}, 0);
  EXPECT_TRUE(CheckPlan(PlanOf({{"a", swapped}, {"b", SourceOf(catalog, 1)}}), catalog));
}

TEST(PlanCheckTest, RefusesWhatIsLostDoubledOrBoth) {
  const Catalog catalog = TwoTensors();
  const View a = SourceOf(catalog, 0), b = SourceOf(catalog, 1);
  const auto tensor_at_fault = [&](const Plan& plan) {
    auto checked = CheckPlan(plan, catalog);
    return checked ? std::string("accepted") : checked.error().tensor;
  };
  EXPECT_EQ(tensor_at_fault(PlanOf({{"a", a}})), "b");
  EXPECT_EQ(tensor_at_fault(PlanOf({{"a", a}, {"b", b}, {"c", b}})), "b");
  EXPECT_EQ(tensor_at_fault(PlanOf({{"a", *View::Slice(a, 1, 0, 1)}, {"b", b}})), "a");
  EXPECT_EQ(tensor_at_fault(PlanOf({{"a", a}, {"a", b}})), "a");
  Plan both = PlanOf({{"a", a}, {"b", b}});
  both.dropped.push_back({.name = "a"});
  EXPECT_EQ(tensor_at_fault(both), "a");
  Plan dropped = PlanOf({{"a", a}});
  dropped.dropped.push_back({.name = "b"});
  EXPECT_EQ(tensor_at_fault(dropped), "accepted");
}

TEST(PlanCheckTest, RefusesFilesWithGapsOrOverlaps) {
  const Catalog catalog = TwoTensors();
  const Plan good = PlanOf({{"a", SourceOf(catalog, 0)}, {"b", SourceOf(catalog, 1)}});
  Plan gap = good;
  gap.files[0].slots[1].offset += 8;
  gap.files[0].size += 8;
  EXPECT_FALSE(CheckPlan(gap, catalog));
  Plan overlap = good;
  overlap.files[0].slots[1].offset -= 8;
  EXPECT_FALSE(CheckPlan(overlap, catalog));
  Plan longer = good;
  longer.files[0].size += 1;
  EXPECT_FALSE(CheckPlan(longer, catalog));
}

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

}  // namespace
}  // namespace reshard
