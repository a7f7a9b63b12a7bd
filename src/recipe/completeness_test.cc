// What a model of a recipe must have, layer by layer.

#include "recipe/completeness.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "recipe/bound_recipe.h"
#include "recipe/model_config.h"
#include "recipe/recipe.h"
#include "view/view.h"

namespace reshard {
namespace {

using testing::HasSubstr;
using Names = std::vector<std::string>;

enum class Side { kHere, kHub };

struct Answer {
  std::string tensor;
  std::string expected;
};

// What is missing of a model that has these names; nothing where it is whole.
Answer Check(const std::string& recipe_text, const std::string& config_text, const Names& names,
             Side side) {
  const auto recipe = Recipe::Parse("name = 'x'\n" + recipe_text, "x.toml");
  if (!recipe) ADD_FAILURE() << recipe.error().ToString();
  const ModelConfig config = *ModelConfig::Parse(config_text, "config.json");
  std::vector<NamedView> tensors;
  for (const std::string& name : names)
    tensors.push_back({name, View::Source(0, DType::kFloat32, {1})});
  const BoundRecipe bound = *BoundRecipe::Bind(*recipe, config, {});
  const auto checked =
      side == Side::kHere ? CheckComplete(bound, tensors) : CheckHubComplete(bound, tensors);
  return checked ? Answer{} : Answer{checked.error().tensor, checked.error().expected};
}

Names Without(Names names, const std::string& name) {
  EXPECT_EQ(std::erase(names, name), 1u) << name;
  return names;
}

Names With(Names names, const std::string& name) {
  names.push_back(name);
  return names;
}

void ExpectEachIsMissed(const std::string& recipe, const std::string& config, const Names& names,
                        Side side) {
  EXPECT_EQ(Check(recipe, config, names, side).tensor, "");
  for (const std::string& name : names)
    EXPECT_EQ(Check(recipe, config, Without(names, name), side).tensor, name);
}

// On stages: layers with either a dense or a sparse block, and mergers on layers of a table.
constexpr const char* kStages = R"(
[sizes]
first = "first_sparse"
step  = "sparse_step ?? 1"
[layers]
llm = "count"
[[rule]]
hub   = "embed"
here  = "embed"
stage = "llm.first"
[[rule]]
hub   = "m.{layer}.norm"
here  = "l.{layer}.norm"
stage = "llm.layer"
[[rule]]
hub   = "m.{layer}.dense"
here  = "l.{layer}.dense"
stage = "llm.layer"
where = "layer < first or layer % step != 0 or layer in dense_layers"
[[rule]]
hub   = "m.{layer}.sparse.up"
here  = "l.{layer}.sparse.up"
stage = "llm.layer"
where = "layer >= first and layer % step == 0 and not layer in dense_layers"
[[rule]]
hub   = "m.{layer}.sparse.down"
here  = "l.{layer}.sparse.down"
stage = "llm.layer"
where = "layer >= first and layer % step == 0 and not layer in dense_layers"
[[rule]]
hub      = "m.{layer}.bias"
here     = "l.{layer}.bias"
stage    = "llm.layer"
optional = true
[[rule]]
hub   = "v.{layer}.w"
here  = "v.{layer}.w"
stage = "vit.layer"
[[rule]]
hub   = "merger.{merger}"
here  = "v.{layer}.merger"
stage = "vit.layer"
index = { layer = "mergers[merger]" }
)";

Names Layers(const std::string& prefix, const std::vector<std::string>& blocks) {
  Names names{"embed"};
  for (size_t layer = 0; layer < blocks.size(); ++layer) {
    names.push_back(fmt::format("{}.{}.norm", prefix, layer));
    if (blocks[layer] == "dense")
      names.push_back(fmt::format("{}.{}.dense", prefix, layer));
    else
      for (const char* part : {"up", "down"})
        names.push_back(fmt::format("{}.{}.sparse.{}", prefix, layer, part));
  }
  return names;
}

struct Kind {
  std::string config;
  std::vector<std::string> blocks;
};

const std::vector<Kind>& Kinds() {
  static const std::vector<Kind> kKinds = {
      {R"({"count": 4, "first_sparse": 1})", {"dense", "sparse", "sparse", "sparse"}},
      {R"({"count": 4, "first_sparse": 3})", {"dense", "dense", "dense", "sparse"}},
      {R"({"count": 3, "first_sparse": 0})", {"sparse", "sparse", "sparse"}},
      {R"({"count": 3, "first_sparse": 9})", {"dense", "dense", "dense"}},
      {R"({"count": 4, "first_sparse": 0, "sparse_step": 2})",
       {"sparse", "dense", "sparse", "dense"}},
      {R"({"count": 3, "first_sparse": 0, "dense_layers": [1]})", {"sparse", "dense", "sparse"}},
      {R"({"count": 3, "first_sparse": 0, "dense_layers": []})", {"sparse", "sparse", "sparse"}}};
  return kKinds;
}

TEST(CompletenessTest, NothingStandsInForWhatALayerLacks) {
  for (const Kind& kind : Kinds()) {
    SCOPED_TRACE(kind.config);
    const Names names = Layers("l", kind.blocks);
    EXPECT_EQ(Check(kStages, kind.config, names, Side::kHere).tensor, "");
    for (const std::string& name : names) {
      const Answer answer = Check(kStages, kind.config, Without(names, name), Side::kHere);
      EXPECT_EQ(answer.tensor, name);
    }
  }
}

TEST(CompletenessTest, WhatIsInNoLayerButShouldBeIsMissed) {
  const std::string& config = Kinds()[0].config;
  Names names = Layers("l", Kinds()[0].blocks);
  std::erase_if(names, [](const std::string& name) { return name.ends_with("norm"); });
  EXPECT_EQ(Check(kStages, config, names, Side::kHere).tensor, "l.0.norm");
  names = Layers("l", Kinds()[0].blocks);
  std::erase_if(names, [](const std::string& name) { return name.contains("sparse"); });
  EXPECT_EQ(Check(kStages, config, names, Side::kHere).tensor, "l.1.sparse.up");
}

TEST(CompletenessTest, ALayerHasOnlyWhatItsConditionAllows) {
  for (const Side side : {Side::kHere, Side::kHub}) {
    const std::string prefix = side == Side::kHere ? "l" : "m";
    const Names names = Layers(prefix, Kinds()[0].blocks);
    const Answer dense = Check(kStages, Kinds()[0].config, With(names, prefix + ".2.dense"), side);
    EXPECT_EQ(dense.tensor, prefix + ".2.dense");
    EXPECT_THAT(dense.expected, HasSubstr("layer < first"));
    EXPECT_EQ(Check(kStages, Kinds()[0].config, With(names, prefix + ".0.sparse.up"), side).tensor,
              prefix + ".0.sparse.up");
    EXPECT_EQ(Check(kStages, R"({"count": 4})", names, side).tensor, prefix + ".0.dense")
        << "a condition that the config leaves open holds nowhere";
  }
}

TEST(CompletenessTest, OptionalIsOfAllLayersOrOfNone) {
  const std::string& config = Kinds()[2].config;
  Names names = Layers("l", Kinds()[2].blocks);
  for (const char* name : {"l.0.bias", "l.2.bias"}) names.emplace_back(name);
  EXPECT_EQ(Check(kStages, config, names, Side::kHere).tensor, "l.1.bias");
  EXPECT_EQ(Check(kStages, config, With(names, "l.1.bias"), Side::kHere).tensor, "");
}

TEST(CompletenessTest, OfAChoiceEachIsThereButTheBias) {
  const char* recipe = R"(
[[rule]]
hub   = "m.{layer}.{q|k}_norm.{weight|bias}"
here  = "l.{layer}.{q|k}_norm.{weight|bias}"
stage = "llm.layer"
)";
  const Names names{"l.0.q_norm.weight", "l.0.k_norm.weight"};
  ExpectEachIsMissed(recipe, "{}", names, Side::kHere);
  EXPECT_EQ(Check(recipe, "{}", With(names, "l.0.q_norm.bias"), Side::kHere).tensor, "");
  EXPECT_EQ(Check(recipe, "{}", {"l.0.q_norm.weight", "l.0.k_norm.bias"}, Side::kHere).tensor,
            "l.0.k_norm.weight");
}

TEST(CompletenessTest, ATableSaysWhichLayersHaveIt) {
  const std::string config = R"({"count": 1, "first_sparse": 1, "mergers": [0, 2]})";
  const Names vit{"v.0.w", "v.0.merger", "v.1.w", "v.2.w", "v.2.merger"};
  ExpectEachIsMissed(kStages, config, vit, Side::kHere);
  EXPECT_EQ(Check(kStages, config, {"merger.0"}, Side::kHub).tensor, "merger.1");
  EXPECT_EQ(Check(kStages, config, {"merger.0", "merger.1"}, Side::kHub).tensor, "");
}

TEST(CompletenessTest, WhateverIsCapturedIsInEveryLayer) {
  const std::string recipe =
      "[[rule]]\nhub = 'm.{layer}.{rest*}'\nhere = 'l.{layer}.{rest*}'\nstage = 'vit.layer'";
  ExpectEachIsMissed(recipe, "{}", {"l.0.a.b", "l.0.c", "l.1.a.b", "l.1.c", "l.2.a.b", "l.2.c"},
                     Side::kHere);
}

TEST(CompletenessTest, NumbersThatNoLayerHas) {
  const Names names = Layers("l", Kinds()[0].blocks);
  for (const char* number : {"4", "x", "9223372036854775807"}) {
    const std::string name = fmt::format("l.{}.norm", number);
    EXPECT_EQ(Check(kStages, Kinds()[0].config, With(names, name), Side::kHere).tensor, name);
    const std::string vit = fmt::format("v.{}.w", number == std::string("4") ? "65536" : number);
    EXPECT_EQ(Check(kStages, "{}", {vit}, Side::kHere).tensor, vit);
  }
}

// Without stages: [layers] promises; some layers of the hub have a list of their own here.
constexpr const char* kPromised = R"(
[sizes]
depth = "count"
[layers]
llm = "count"
[[rule]]
hub  = "head"
here = "head"
[[rule]]
hub   = "m.{layer}.{norm|proj}"
here  = "next.{extra}.{norm|proj}"
index = { extra = "layer - count" }
[[rule]]
hub       = "m.{layer}.norm"
here      = "l.{layer}.norm"
otherwise = true
where     = "layer < depth"
[[rule]]
hub   = "m.{layer}.a"
here  = "l.{layer}.a"
where = "layer in kinds.a"
[[rule]]
hub   = "m.{layer}.b"
here  = "l.{layer}.b"
where = "layer in kinds.b"
)";
constexpr const char* kPromisedConfig = R"({"count": 3, "kinds": ["a", "b", "a"]})";

TEST(HubCompletenessTest, OfARecipeWithoutStagesFollowsLayers) {
  const Names names{"head", "m.0.norm", "m.0.a", "m.1.norm", "m.1.b", "m.2.norm", "m.2.a"};
  ExpectEachIsMissed(kPromised, kPromisedConfig, names, Side::kHub);
  EXPECT_EQ(Check(kPromised, kPromisedConfig, With(names, "m.3.a"), Side::kHub).tensor, "m.3.a");
}

TEST(HubCompletenessTest, LayersOfAListOfTheirOwnAreWholeOrNotThere) {
  const Names names{"head",     "m.0.norm", "m.0.a",    "m.1.norm", "m.1.b",   "m.2.norm",
                    "m.2.a",    "m.3.norm", "m.3.proj", "m.4.norm", "m.4.proj"};
  ExpectEachIsMissed(kPromised, kPromisedConfig, names, Side::kHub);
}

TEST(HubCompletenessTest, WithoutTheNumberOfLayersNothingIsPromised) {
  EXPECT_EQ(Check(kPromised, "{}", {"m.0.a", "m.2.norm"}, Side::kHub).tensor, "");
}

}  // namespace
}  // namespace reshard
