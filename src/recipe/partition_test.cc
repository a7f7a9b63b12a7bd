#include "recipe/partition.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "recipe/completeness.h"
#include "recipe/recipe_test_support.h"

namespace reshard {
namespace {

using testing::HasSubstr;

// All ways in which a rule deals a tensor out.
constexpr std::string_view kRecipe = R"(
name = "dealt"
[sizes]
expert = "experts"
[layers]
llm = "layer_count"
[[rule]]
hub = "embed"
here = "embed"
map = "v h"
tp = "v"
stage = "llm.first"
[[rule]]
hub = "norm"
here = "norm"
stage = "llm.last"
[[rule]]
hub = "everywhere"
here = "everywhere"
stage = "every"
[[rule]]
hub = "l.{layer}.a"
here = "l.{layer}.a"
map = "(2 f) h"
tp = "f"
stage = "llm.layer"
[[rule]]
hub = "l.{layer}.u"
here = "l.{layer}.u"
map = "h u"
tp = "u"
uneven = true
stage = "llm.layer"
[[rule]]
hub = "l.{layer}.e{expert}"
here = "l.{layer}.e{expert}"
map = "f h"
tp = "f"
ep = "expert"
stage = "llm.layer"
[[rule]]
hub = "l.{layer}.s"
here = "l.{layer}.s"
map = "x f h"
tp = "f"
ep = "x"
stage = "llm.layer"
[[rule]]
hub = "vit.{layer}.w"
here = "vit.{layer}.w"
stage = "vit.layer"
)";

struct Model {
  Recipe recipe = *Recipe::Parse(kRecipe, "dealt.toml");
  ModelConfig config;
  std::vector<NamedView> tensors;
  std::vector<Shape> shapes;

  void Add(const std::string& name, Shape shape) {
    tensors.push_back(
        {name, View::Source(static_cast<uint32_t>(shapes.size()), DType::kFloat32, shape)});
    shapes.push_back(std::move(shape));
  }
  Model(int64_t layers, int64_t experts) {
    config = *ModelConfig::Parse(
        fmt::format(R"({{"experts": {}, "layer_count": {}}})", experts, layers), "c");
    Add("embed", {8, 2});
    Add("norm", {2});
    Add("everywhere", {3});
    for (int64_t layer = 0; layer < layers; ++layer) {
      Add(fmt::format("l.{}.a", layer), {8, 2});
      Add(fmt::format("l.{}.u", layer), {2, 7});
      Add(fmt::format("l.{}.s", layer), {4, 4, 1});
      for (int64_t expert = 0; expert < experts; ++expert)
        Add(fmt::format("l.{}.e{}", layer, expert), {4, 2});
    }
    Add("vit.0.w", {2});
    Add("vit.1.w", {2});
    std::ranges::sort(tensors, {}, &NamedView::name);
  }
  BoundRecipe Bind() const { return *BoundRecipe::Bind(recipe, config, {}); }
  Layout Resolve(const LayoutRequest& request) const {
    return *ResolveLayout(request, CountLayers(Bind(), tensors));
  }
};

LayoutRequest RandomLayout() {
  const auto size = [] { return *rc::gen::element<int64_t>(1, 2, 4); };
  LayoutRequest request{.tp = size(), .pp = size(), .ep = size()};
  request.vpp = *rc::gen::element<int64_t>(1, 2);
  if (*rc::gen::arbitrary<bool>()) request.etp = *rc::gen::element<int64_t>(1, request.tp);
  if (*rc::gen::arbitrary<bool>()) request.part_tp["vit"] = 1;
  // The vision tower stands on one stage, on each, or its layers on one each.
  const auto stages = static_cast<size_t>(request.pp * request.vpp);
  std::vector<int64_t> vit(*rc::gen::element<size_t>(1, stages), 0);
  ++vit[*rc::gen::inRange<size_t>(0, vit.size())];
  ++vit[*rc::gen::inRange<size_t>(0, vit.size())];
  if (vit.size() == 1) {
    request.part_layers["vit"] = {vit};
  } else {
    LayerRows rows;
    const auto columns = static_cast<std::ptrdiff_t>(request.pp);
    for (auto at = vit.begin(); at != vit.end(); at += columns) rows.emplace_back(at, at + columns);
    request.part_layers["vit"] = rows;
  }
  return request;
}

// Dealt out to any ranks and put together again, every tensor is what it was, and the shards that
// are not repeats hold each element once.
TEST(PartitionTest, AssembleIsTheInverse) {
  EXPECT_TRUE(rc::check([] {
    const Model model(8, 4);
    const BoundRecipe recipe = model.Bind();
    const Layout layout = model.Resolve(RandomLayout());
    const auto ranks = Partition(recipe, layout, model.tensors);
    RC_ASSERT(ranks.has_value());

    std::vector<Element> held, all;
    for (const RankTensor& tensor : *ranks) {
      if (tensor.view.op() == View::Op::kRepeat) continue;
      const auto elements = Elements(tensor.view, model.shapes);
      held.insert(held.end(), elements.begin(), elements.end());
    }
    for (uint32_t i = 0; i < model.shapes.size(); ++i) {
      const auto elements = AllElements(i, model.shapes[i]);
      all.insert(all.end(), elements.begin(), elements.end());
    }
    std::ranges::sort(held);
    RC_ASSERT(held == all);

    Mapping mapping;
    RC_ASSERT(Assemble(recipe, layout, *ranks, &mapping).has_value());
    std::ranges::sort(mapping.tensors, {}, &NamedView::name);
    RC_ASSERT(mapping.tensors.size() == model.tensors.size());
    for (size_t i = 0; i < mapping.tensors.size(); ++i) {
      RC_ASSERT(mapping.tensors[i].name == model.tensors[i].name);
      RC_ASSERT(mapping.tensors[i].view.shape() == model.tensors[i].view.shape());
      RC_ASSERT(Elements(mapping.tensors[i].view, model.shapes) ==
                Elements(model.tensors[i].view, model.shapes));
    }
    for (const Check& check : mapping.checks)
      RC_ASSERT(Elements(check.view, model.shapes) == Elements(check.equals, model.shapes));
    RC_ASSERT(CheckComplete(recipe, mapping.tensors).has_value());
  }));
}

TEST(PartitionTest, ARankHasItsOwnNumbersAndShards) {
  const Model model(4, 4);
  const auto ranks = *Partition(
      model.Bind(), model.Resolve({.tp = 2, .pp = 2, .ep = 2, .part_layers = {{"vit", {{2, 0}}}}}),
      model.tensors);
  const auto find = [&](int64_t tp, int64_t pp, int64_t ep, const std::string& name) {
    const auto at = std::ranges::find_if(ranks, [&](const RankTensor& tensor) {
      return tensor.tp == tp && tensor.pp == pp && tensor.ep == ep && tensor.name == name;
    });
    return at == ranks.end() ? nullptr : &*at;
  };
  const auto source = [&](const std::string& name) {
    return std::ranges::find(model.tensors, name, &NamedView::name)->view.source();
  };
  // Layer 2 is the first of stage 1, expert 3 the second of expert rank 1; rows 2 and 3 are of
  // shard 1.
  const RankTensor* expert = find(1, 1, 1, "l.0.e1");
  ASSERT_NE(expert, nullptr);
  const uint32_t whole = source("l.2.e3");
  EXPECT_EQ(Elements(expert->view, model.shapes),
            (std::vector<Element>{{whole, 4}, {whole, 5}, {whole, 6}, {whole, 7}}));
  // A fused tensor is cut part by part.
  const uint32_t fused = source("l.0.a");
  EXPECT_EQ(Elements(find(1, 0, 0, "l.0.a")->view, model.shapes),
            (std::vector<Element>{{fused, 4},
                                  {fused, 5},
                                  {fused, 6},
                                  {fused, 7},
                                  {fused, 12},
                                  {fused, 13},
                                  {fused, 14},
                                  {fused, 15}}));
  // 7 columns on two ranks: the first has one more.
  EXPECT_EQ(find(0, 0, 0, "l.0.u")->view.shape(), (Shape{2, 4}));
  EXPECT_EQ(find(1, 0, 0, "l.0.u")->view.shape(), (Shape{2, 3}));
  EXPECT_EQ(find(0, 1, 0, "embed"), nullptr);
  EXPECT_EQ(find(0, 0, 0, "norm"), nullptr);
  EXPECT_EQ(find(0, 1, 0, "vit.0.w"), nullptr);
  EXPECT_EQ(find(1, 1, 1, "everywhere")->view.op(), View::Op::kRepeat);
}

std::string PartitionFault(const Model& model, const LayoutRequest& request) {
  const auto layout = ResolveLayout(request, CountLayers(model.Bind(), model.tensors));
  if (!layout) return layout.error().found;
  const auto ranks = Partition(model.Bind(), *layout, model.tensors);
  return ranks ? std::string() : ranks.error().tensor + ": " + ranks.error().found;
}

TEST(PartitionTest, WhatDoesNotDivideIsSaidWithTheNumbers) {
  EXPECT_THAT(PartitionFault(Model(4, 4), {.tp = 3}),
              HasSubstr("'v' of 'v h' is 8, to be cut in 3"));
  EXPECT_THAT(PartitionFault(Model(4, 4), {.ep = 3}), HasSubstr("4 experts over ep 3"));
  Model model(4, 4);
  model.Add("l.0.ex", {4, 2});
  EXPECT_THAT(PartitionFault(model, {.ep = 2}), HasSubstr("of no expert"));
  model.tensors.back().name = "l.x.a";
  EXPECT_THAT(PartitionFault(model, {.ep = 2}), HasSubstr("no stage"));
  model.tensors.back().name = "l.9223372036854775807.a";
  EXPECT_THAT(PartitionFault(model, {.ep = 2}), HasSubstr("no stage"));
  model.tensors.back().name = "unknown";
  EXPECT_THAT(PartitionFault(model, {.ep = 2}), HasSubstr("unknown: recipe 'dealt' has no rule"));
}

class AssembleFaultTest : public testing::Test {
 protected:
  AssembleFaultTest()
      : recipe_(model_.Bind()),
        layout_(model_.Resolve({.tp = 2, .pp = 2, .ep = 2, .part_layers = {{"vit", {{2, 0}}}}})),
        ranks_(*Partition(recipe_, layout_, model_.tensors)) {}

  std::string Fault() {
    Mapping mapping;
    auto done = Assemble(recipe_, layout_, ranks_, &mapping);
    if (done) done = CheckComplete(recipe_, mapping.tensors);
    return done ? std::string() : done.error().tensor + ": " + done.error().found;
  }
  void Erase(const std::function<bool(const RankTensor&)>& condition) {
    ASSERT_GT(std::erase_if(ranks_, condition), 0u);
  }

  const Model model_{4, 4};
  const BoundRecipe recipe_;
  const Layout layout_;
  std::vector<RankTensor> ranks_;
};

TEST_F(AssembleFaultTest, AllThere) { EXPECT_EQ(Fault(), ""); }

TEST_F(AssembleFaultTest, AShardIsMissing) {
  Erase([](const RankTensor& t) { return t.tp == 1 && t.pp == 1 && t.name == "l.0.a"; });
  EXPECT_THAT(Fault(), HasSubstr("l.2.a: shard 1 of 2"));
}

TEST_F(AssembleFaultTest, ATensorOfALayerIsMissingOnAllRanks) {
  Erase([](const RankTensor& t) { return t.pp == 1 && t.name == "l.1.a"; });
  EXPECT_THAT(Fault(), HasSubstr("l.3.a: it is not there"));
}

TEST_F(AssembleFaultTest, TheLastExpertOfARankIsMissing) {
  Erase([](const RankTensor& t) { return t.ep == 1 && t.pp == 0 && t.name == "l.1.e1"; });
  EXPECT_THAT(Fault(), HasSubstr("l.1.e3: it is not there"));
}

TEST_F(AssembleFaultTest, TheLastExpertOfARankIsMissingInEveryLayer) {
  Erase([](const RankTensor& t) { return t.ep == 1 && t.name.ends_with("e1"); });
  EXPECT_THAT(Fault(), HasSubstr("e3: it is not there"));
}

TEST_F(AssembleFaultTest, WhatStandsAloneIsMissing) {
  Erase([](const RankTensor& t) { return t.name == "norm"; });
  EXPECT_THAT(Fault(), HasSubstr("norm: it is not there"));
}

TEST_F(AssembleFaultTest, ALayerMoreThanTheStageHas) {
  for (RankTensor& tensor : ranks_)
    if (tensor.name == "l.1.a") tensor.name = "l.2.a";
  EXPECT_THAT(Fault(), HasSubstr("a layer of"));
}

TEST_F(AssembleFaultTest, ATensorOnAnotherStage) {
  for (RankTensor& tensor : ranks_)
    if (tensor.name == "norm") tensor.pp = 0;
  EXPECT_THAT(Fault(), HasSubstr("norm: it is at tp 0, pp 0"));
}

TEST_F(AssembleFaultTest, ReplicasOfAnotherShape) {
  for (RankTensor& tensor : ranks_)
    if (tensor.name == "norm" && tensor.tp == 1) tensor.view = *View::Slice(tensor.view, 0, 0, 1);
  EXPECT_THAT(Fault(), HasSubstr("norm: float32"));
}

TEST(CheckUsesLayoutTest, SizesThatNoRuleCutsBy) {
  const Recipe recipe =
      *Recipe::Parse("name = \"x\"\n[[rule]]\nhub = \"a\"\nhere = \"a\"", "x.toml");
  const ModelConfig config;
  const BoundRecipe bound = *BoundRecipe::Bind(recipe, config, {});
  const auto fault = [&](const LayoutRequest& request) {
    const auto used = CheckUsesLayout(bound, *ResolveLayout(request, {}));
    return used ? std::string() : used.error().found;
  };
  EXPECT_EQ(fault({}), "");
  EXPECT_THAT(fault({.tp = 2}), HasSubstr("2 tensor parallel ranks"));
  EXPECT_THAT(fault({.ep = 2}), HasSubstr("ep is 2"));
  EXPECT_THAT(fault({.pp = 2}), HasSubstr("2 stages"));
}

}  // namespace
}  // namespace reshard
