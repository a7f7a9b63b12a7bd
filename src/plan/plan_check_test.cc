#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "plan/planner.h"
#include "view/catalog_builder.h"
#include "view/lower.h"

namespace reshard {
namespace {

using testing::HasSubstr;

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
  EXPECT_TRUE(
      CheckPlan(PlanOf({{"a", SourceOf(catalog, 0)}, {"b", SourceOf(catalog, 1)}}), catalog));

  const View a = SourceOf(catalog, 0);
  const View swapped = *View::Concat({*View::Slice(a, 0, 2, 2), *View::Slice(a, 0, 0, 2)}, 0);
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

// Scales have no place of their own: every value is multiplied by them.
TEST(PlanCheckTest, ScalesAreUsedWhereAllValuesAre) {
  CatalogBuilder builder;
  builder.AddFile({.path = "f", .size = 1024});
  builder.AddTensor("a", DType::kFloat8E4M3FN, {4, 2});
  builder.AddWhole(0, 0, 8);
  builder.AddTensor("a_scale", DType::kFloat32, {2, 1});
  builder.AddWhole(0, 8, 8);
  builder.AddTensor("b_scale", DType::kFloat32, {2, 1});
  builder.AddWhole(0, 16, 8);
  const Catalog catalog = *std::move(builder).Build("ckpt");
  const View raw = SourceOf(catalog, 0), scales = SourceOf(catalog, 1), other = SourceOf(catalog, 2);
  const View a = *View::Dequantize(raw, scales, {2, 2}), with_b = *View::Dequantize(raw, other, {2, 2});
  const auto part = [](const View& of, int64_t row) { return *View::Slice(of, 0, row, 2); };
  const auto fault = [&](std::vector<NamedView> tensors, std::vector<std::string> dropped = {}) {
    Plan plan = PlanOf(tensors);
    for (std::string& name : dropped) plan.dropped.push_back({.name = std::move(name)});
    auto checked = CheckPlan(plan, catalog);
    return checked ? std::string("accepted") : checked.error().tensor + ": " + checked.error().found;
  };
  EXPECT_EQ(fault({{"a", a}, {"b", other}}), "accepted");
  EXPECT_EQ(fault({{"top", part(a, 0)}, {"end", part(a, 2)}, {"b", other}}), "accepted");
  EXPECT_THAT(fault({{"top", part(a, 0)}, {"b", other}}), HasSubstr("a: no tensor"));
  EXPECT_THAT(fault({{"a", a}}), HasSubstr("b_scale: no tensor"));
  EXPECT_THAT(fault({{"a", a}, {"a_scale", scales}, {"b", other}}), HasSubstr("a_scale: 'a' is"));
  EXPECT_THAT(fault({{"a", a}, {"b", other}}, {"a_scale"}), HasSubstr("also dropped"));
  EXPECT_THAT(fault({{"top", part(a, 0)}, {"end", part(raw, 2)}, {"b", other}}),
              HasSubstr("another part is not"));
  EXPECT_THAT(fault({{"top", part(a, 0)}, {"end", part(with_b, 2)}}), HasSubstr("several tensors"));
  EXPECT_THAT(fault({{"a", raw}, {"s", scales}, {"b", other}}), HasSubstr("accepted"));
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

// Ranks of a Megatron target: the same names in each rank's file, and replicas.
TEST(PlanCheckTest, ReplicasAreUniform) {
  const Catalog catalog = TwoTensors();
  const View a = SourceOf(catalog, 0), b = SourceOf(catalog, 1);
  const auto ranks = [&](const std::vector<std::vector<NamedView>>& contents) {
    Plan plan;
    for (const auto& content : contents) {
      plan.files.push_back(PlanOf(content).files[0]);
      plan.files.back().path = std::to_string(plan.files.size());
    }
    return plan;
  };
  const View top = *View::Slice(a, 0, 0, 2), bottom = *View::Slice(a, 0, 2, 2);
  const Plan good = ranks({{{"a", top}, {"b", b}}, {{"a", bottom}, {"b", b}}});
  EXPECT_TRUE(CheckPlan(good, catalog, Replicas::kUniform));
  EXPECT_FALSE(CheckPlan(good, catalog));

  const auto uneven = CheckPlan(ranks({{{"a", a}, {"b", b}}, {{"a", bottom}, {"b", b}}}), catalog,
                                Replicas::kUniform);
  ASSERT_FALSE(uneven);
  EXPECT_EQ(uneven.error().tensor, "a");
  EXPECT_FALSE(
      CheckPlan(ranks({{{"a", top}, {"a", bottom}, {"b", b}}}), catalog, Replicas::kUniform));
  Plan one_path = good;
  one_path.files[1].path = one_path.files[0].path;
  EXPECT_FALSE(CheckPlan(one_path, catalog, Replicas::kUniform));

  // What is checked is not written, however often the rest is.
  Plan padded = ranks({{{"a", top}, {"b", b}}, {{"a", top}, {"b", b}}});
  padded.checks.push_back(
      {.name = "a", .view = bottom, .equals = *View::Fill(DType::kFloat32, {2, 2})});
  EXPECT_TRUE(CheckPlan(padded, catalog, Replicas::kUniform));
  padded.checks.push_back(padded.checks[0]);
  EXPECT_FALSE(CheckPlan(padded, catalog, Replicas::kUniform));
}

class MappingCheckTest : public testing::Test {
 protected:
  std::string Fault() const {
    const auto checked = CheckMapping(mapping_, catalog_);
    if (checked) return "accepted";
    return checked.error().tensor + ": " + checked.error().found;
  }

  const Catalog catalog_ = TwoTensors();
  const View a_ = SourceOf(catalog_, 0);
  const View b_ = SourceOf(catalog_, 1);
  const View zeros_ = *View::Fill(DType::kFloat32, {1, 2});
  Mapping mapping_{.tensors = {{"x", *View::Slice(a_, 0, 0, 3)}, {"y", b_}}};
};

TEST_F(MappingCheckTest, PaddingIsCheckedOrDroppedByName) {
  EXPECT_THAT(Fault(), HasSubstr("a: no tensor of the target holds its element [3, "));
  const View padding = *View::Slice(a_, 0, 3, 1);
  Mapping dropped = mapping_;
  mapping_.checks.push_back({"a", padding, zeros_, "zeros"});
  EXPECT_EQ(Fault(), "accepted");
  mapping_.dropped_parts.push_back({"a", padding, "padding"});
  EXPECT_THAT(Fault(), HasSubstr("stands in 2 places: a check leaves it out, it is dropped"));
  mapping_.checks.clear();
  EXPECT_EQ(Fault(), "accepted");
  mapping_.tensors[0].view = a_;
  EXPECT_THAT(Fault(), HasSubstr("stands in 2 places: 'x' holds it, it is dropped"));
  mapping_.dropped_parts.clear();
  mapping_.dropped.push_back({.name = "a"});
  EXPECT_THAT(Fault(), HasSubstr("both dropped and copied"));
}

TEST_F(MappingCheckTest, AChecksSidesAreAlike) {
  mapping_.checks.push_back({"a", *View::Slice(a_, 0, 3, 1), *View::Slice(b_, 0, 0, 2), ""});
  EXPECT_THAT(Fault(), HasSubstr("a check of float32 [1, 2] against int64 [2]"));
}

TEST_F(MappingCheckTest, WhatIsReplacedHasAnotherOfItsName) {
  mapping_.tensors[0].view = a_;
  mapping_.dropped.push_back({.name = "a", .by = LeftOutBy::kLlmFrom});
  EXPECT_EQ(Fault(), "accepted");
  mapping_.dropped.push_back({.name = "c", .by = LeftOutBy::kLlmFrom});
  EXPECT_THAT(Fault(), HasSubstr("nothing replaces it"));
}

TEST_F(MappingCheckTest, NamesAreUnique) {
  mapping_.tensors[1].name = "x";
  EXPECT_THAT(Fault(), HasSubstr("this name twice"));
}

// Three replicas, of which checks leave out some.
class ReplicaCheckTest : public testing::Test {
 protected:
  ReplicaCheckTest() {
    CatalogBuilder builder;
    builder.AddFile({.path = "f", .size = 96});
    for (uint64_t i = 0; i < 3; ++i) {
      builder.AddTensor(std::string(1, static_cast<char>('a' + i)), DType::kFloat32, {4, 2});
      builder.AddWhole(0, 32 * i, 32);
    }
    catalog_ = *std::move(builder).Build("ckpt");
    for (uint32_t i = 0; i < 3; ++i) replicas_.push_back(SourceOf(catalog_, i));
  }

  Check Equal(size_t replica, size_t origin) const {
    return {.name = catalog_.tensors()[replica].name,
            .view = replicas_[replica],
            .equals = replicas_[origin]};
  }

  Catalog catalog_;
  std::vector<View> replicas_;
};

TEST_F(ReplicaCheckTest, ChainsEndAtWhatStays) {
  const Mapping mapping{.tensors = {{"x", replicas_[0]}}, .checks = {Equal(2, 1), Equal(1, 0)}};
  EXPECT_TRUE(CheckMapping(mapping, catalog_));
}

TEST_F(ReplicaCheckTest, CirclesLoseBoth) {
  const Mapping mapping{.tensors = {{"x", replicas_[0]}}, .checks = {Equal(2, 1), Equal(1, 2)}};
  const auto checked = CheckMapping(mapping, catalog_);
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().found, HasSubstr("circle"));
}

TEST_F(ReplicaCheckTest, WhatIsDroppedStandsForNothing) {
  const Mapping mapping{
      .tensors = {{"x", replicas_[0]}}, .checks = {Equal(2, 1)}, .dropped = {{.name = "b"}}};
  const auto checked = CheckMapping(mapping, catalog_);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().tensor, "b");
}

TEST_F(ReplicaCheckTest, PartsOfOneTensor) {
  const View top = *View::Slice(replicas_[2], 0, 0, 2);
  const View bottom = *View::Slice(replicas_[2], 0, 2, 2);
  Mapping mapping{.tensors = {{"x", replicas_[0]}, {"y", replicas_[1]}, {"z", top}},
                  .checks = {{.name = "c", .view = bottom, .equals = top}}};
  EXPECT_TRUE(CheckMapping(mapping, catalog_));
  mapping.tensors.pop_back();
  mapping.checks.push_back({.name = "c", .view = top, .equals = bottom});
  EXPECT_FALSE(CheckMapping(mapping, catalog_));
}

Shape RandomShape(int64_t numel) {
  Shape shape;
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i) {
    std::vector<int64_t> divisors;
    for (int64_t d = 1; d <= numel; ++d)
      if (numel % d == 0) divisors.push_back(d);
    shape.push_back(divisors[*rc::gen::inRange<size_t>(0, divisors.size())]);
    numel /= shape.back();
  }
  shape.push_back(numel);
  return shape;
}

View Shuffled(const View& view) {
  const View shaped =
      *View::Reshape(view, RandomShape(std::reduce(view.shape().begin(), view.shape().end(),
                                                   int64_t{1}, std::multiplies<>())));
  std::vector<size_t> dims(shaped.shape().size());
  std::iota(dims.begin(), dims.end(), size_t{0});
  for (size_t i = 1; i < dims.size(); ++i)
    std::swap(dims[i], dims[*rc::gen::inRange<size_t>(0, i + 1)]);
  return *View::Permute(shaped, dims);
}

// Views that together hold each element of `tensor` once.
std::vector<View> Parts(const View& tensor, int cuts) {
  std::vector<View> parts{tensor};
  for (; cuts > 0; --cuts) {
    View& part = parts[*rc::gen::inRange<size_t>(0, parts.size())];
    part = Shuffled(part);
    const size_t dim = *rc::gen::inRange<size_t>(0, part.shape().size());
    const int64_t length = part.shape()[dim];
    if (length < 2) continue;
    const int64_t at = *rc::gen::inRange<int64_t>(1, length);
    const View rest = *View::Slice(part, dim, at, length - at);
    part = *View::Slice(part, dim, 0, at);
    parts.push_back(rest);
  }
  return parts;
}

// How often each element of a tensor stands in the views, element by element.
std::map<Shape, size_t> CountElements(const std::vector<View>& views) {
  std::map<Shape, size_t> counts;
  for (const View& view : views)
    EXPECT_TRUE(LowerWhole(view, [&](const Region& region) -> Result<> {
      std::vector<Shape> elements{region.start};
      for (const Loop& loop : region.loops) {
        std::vector<Shape> more;
        for (Shape at : elements)
          for (int64_t i = 0; i < loop.extent; ++i, at[loop.dim] += loop.step) more.push_back(at);
        elements = std::move(more);
      }
      for (const Shape& at : elements) ++counts[at];
      return {};
    }));
  return counts;
}

// One tensor, cut and turned at random into tensors, checks and dropped parts; then one view loses,
// doubles or shifts an element.
TEST(MappingPropertyTest, AcceptsWhatIsRightAndNothingElse) {
  EXPECT_TRUE(rc::check([] {
    Shape shape{*rc::gen::inRange(1, 13), *rc::gen::inRange(1, 9), *rc::gen::inRange(1, 5)};
    CatalogBuilder builder;
    const auto numel = static_cast<uint64_t>(shape[0] * shape[1] * shape[2]);
    builder.AddFile({.path = "f", .size = numel});
    builder.AddTensor("t", DType::kInt8, shape);
    builder.AddWhole(0, 0, numel);
    const Catalog catalog = *std::move(builder).Build("ckpt");
    std::vector<View> parts = Parts(SourceOf(catalog, 0), *rc::gen::inRange(0, 6));
    const auto check = [&] {
      Mapping mapping;
      for (size_t i = 0; i < parts.size(); ++i) {
        if (i % 4 < 2)
          mapping.tensors.push_back({std::to_string(i), parts[i]});
        else if (i % 4 == 2)
          mapping.checks.push_back(
              {"t", parts[i], *View::Fill(DType::kInt8, parts[i].shape()), ""});
        else
          mapping.dropped_parts.push_back({"t", parts[i], ""});
      }
      return CheckMapping(mapping, catalog);
    };
    const auto right = check();
    RC_ASSERT(right.has_value());

    View& victim = parts[*rc::gen::inRange<size_t>(0, parts.size())];
    const auto length = static_cast<int64_t>(victim.byte_size());
    const View flat = *View::Reshape(victim, {length});
    const View whole = *View::Reshape(SourceOf(catalog, 0), {static_cast<int64_t>(numel)});
    const int64_t at = *rc::gen::inRange<int64_t>(0, length);
    const View other = *View::Slice(whole, 0, *rc::gen::inRange<int64_t>(0, numel), 1);
    std::vector<View> pieces{*View::Slice(flat, 0, 0, at),
                             *View::Slice(flat, 0, at + 1, length - at - 1)};
    const int damage = *rc::gen::inRange(0, 3);
    if (damage == 1) pieces.insert(pieces.begin() + 1, other);       // another element
    if (damage == 2) pieces = {flat, *View::Slice(flat, 0, at, 1)};  // one more
    victim = *View::Concat(pieces, 0);
    const auto counts = CountElements(parts);
    const bool still = counts.size() == numel && std::ranges::all_of(counts, [](const auto& entry) {
                         return entry.second == 1;
                       });
    const auto damaged = check();
    RC_ASSERT(damaged.has_value() == still);
    RC_ASSERT(still == (damage == 1 && damaged.has_value()));
  }));
}

}  // namespace
}  // namespace reshard
