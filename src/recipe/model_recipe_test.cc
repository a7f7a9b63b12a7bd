// What a recipe says about one model: maps, conditions and refusals that need its config.json.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipe/bound_recipe.h"
#include "recipe/model_config.h"
#include "recipe/recipe.h"
#include "view/lower.h"
#include "view/view.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Recipe Read(const std::string& body, const std::string& part = "") {
  auto recipe = Recipe::Parse("name = \"x\"\n" + body, "x.toml",
                              [&](const std::string&) -> Result<std::string> { return part; });
  if (!recipe) ADD_FAILURE() << recipe.error().ToString();
  return *std::move(recipe);
}

std::string FaultIn(const std::string& body) {
  auto recipe = Recipe::Parse("name = \"x\"\n" + body, "x.toml");
  return recipe ? "" : recipe.error().found;
}

ModelConfig Config(const std::string& json) { return *ModelConfig::Parse(json, "config.json"); }

// Takes one hub tensor to the recipe's names.
Result<Mapping> FromHub(const Recipe& recipe, const ModelConfig& config, const std::string& name,
                        Shape shape, const std::string& form = {}) {
  Mapping mapping;
  mapping.tensors.push_back({name, View::Source(0, DType::kFloat32, std::move(shape))});
  auto bound = BoundRecipe::Bind(recipe, config, {});
  if (!bound) return std::unexpected(bound.error());
  if (auto done = bound->FromHub(&mapping, {}, form); !done) return std::unexpected(done.error());
  return mapping;
}

std::vector<std::string> Names(const Mapping& mapping) {
  std::vector<std::string> names;
  for (const NamedView& tensor : mapping.tensors) names.push_back(tensor.name);
  return names;
}

// Two forms of stacked experts, [e, h, i] first.
constexpr const char* kTwoForms = R"(
[sizes]
h = "hidden"
i = "inner"
[[rule]]
hub  = "experts"
here = "expert.{e}"
map  = { wide = "e h i -> i h", tall = "e i h -> i h" }
)";

TEST(SeveralMapsTest, TheShapeTellsWhichOneItIs) {
  const Recipe recipe = Read(kTwoForms);
  const ModelConfig config = Config(R"({"hidden": 4, "inner": 3})");
  const auto first = FromHub(recipe, config, "experts", {2, 4, 3});
  const auto second = FromHub(recipe, config, "experts", {2, 3, 4});
  ASSERT_TRUE(first && second);
  for (const Mapping* mapping : {&*first, &*second}) {
    EXPECT_THAT(Names(*mapping), ElementsAre("expert.0", "expert.1"));
    EXPECT_EQ(mapping->tensors[1].view.shape(), (Shape{3, 4}));
  }
  auto back = *first;
  ASSERT_TRUE(BoundRecipe::Bind(recipe, config, {})->ToHub(&back));
  ASSERT_THAT(Names(back), ElementsAre("experts"));
  EXPECT_EQ(back.tensors[0].view.shape(), (Shape{2, 4, 3}));
}

TEST(SeveralMapsTest, TowardsTheHubItIsTheFirstOrTheOneAskedForOrLikeAnother) {
  const Recipe recipe = Read(kTwoForms);
  EXPECT_THAT(recipe.form_names(), ElementsAre("wide", "tall")) << "in the order of the file";
  const auto shape = [&](const std::string& text, const HubStyle& style) {
    const ModelConfig config = Config(text);
    auto mapping = *FromHub(recipe, config, "experts", {2, 3, 4}, "tall");
    EXPECT_TRUE(BoundRecipe::Bind(recipe, config, {})->ToHub(&mapping, style));
    return mapping.tensors[0].view.shape();
  };
  const std::string told = R"({"hidden": 4, "inner": 3})";
  EXPECT_EQ(shape(told, {}), (Shape{2, 4, 3}));
  EXPECT_EQ(shape(told, {.form = "tall"}), (Shape{2, 3, 4}));
  EXPECT_EQ(shape(told, {.shapes = {{"experts", {2, 3, 4}}}}), (Shape{2, 3, 4}));
  EXPECT_EQ(shape(told, {.shapes = {{"experts", {2, 4, 3}}}, .form = "tall"}), (Shape{2, 4, 3}))
      << "a shape counts for more";
  EXPECT_EQ(shape("{}", {.shapes = {{"experts", {2, 3, 4}}}, .form = "tall"}), (Shape{2, 3, 4}));
  EXPECT_EQ(shape(told, {.shapes = {{"other", {2, 3, 4}}}}), (Shape{2, 4, 3}));
}

TEST(SeveralMapsTest, NoneOrMoreThanOneThatFitsIsRefused) {
  const Recipe recipe = Read(kTwoForms);
  const auto found = [&](const std::string& config, Shape shape) {
    auto mapped = FromHub(recipe, Config(config), "experts", std::move(shape));
    return mapped ? "" : mapped.error().found;
  };
  EXPECT_EQ(found(R"({"hidden": 4, "inner": 3})", {2, 5, 3}),
            "the shape [2, 5, 3] is no form of it");
  const std::string open = "may be wide 'e h i' or tall 'e i h'";
  EXPECT_THAT(found(R"({"hidden": 4, "inner": 4})", {2, 4, 4}), HasSubstr(open));
  EXPECT_THAT(found("{}", {2, 4, 3}), HasSubstr(open));
  EXPECT_EQ(found(R"({"hidden": 4})", {2, 4, 3}), "");
}

TEST(SeveralMapsTest, WhatTheShapeLeavesOpenTheFormDecides) {
  const Recipe recipe = Read(kTwoForms);
  const ModelConfig config = Config(R"({"hidden": 3, "inner": 3})");
  // The element [0, 1] of expert 0 is what stands at [0, 1, 0] of the wide form.
  const auto element = [&](const std::string& form) {
    const auto mapping = FromHub(recipe, config, "experts", {1, 3, 3}, form);
    const std::vector<int64_t> at{0, 1}, one{1, 1};
    Shape found;
    EXPECT_TRUE(mapping && Lower(mapping->tensors[0].view, at, one, one,
                                 [&](const Region& region) -> Result<> {
                                   found = region.start;
                                   return {};
                                 }));
    return found;
  };
  EXPECT_EQ(element("wide"), (Shape{0, 1, 0}));
  EXPECT_EQ(element("tall"), (Shape{0, 0, 1}));
  EXPECT_FALSE(FromHub(recipe, config, "experts", {1, 3, 3}, "long"));
  // What the shape tells is not overruled.
  EXPECT_TRUE(FromHub(recipe, Config(R"({"hidden": 4, "inner": 3})"), "experts", {2, 4, 3}, "tall"));
}

TEST(SeveralMapsTest, TheyMakeTheSameOfOneHubTensor) {
  const auto fault = [](const std::string& rest) { return FaultIn("[[rule]]\n" + rest); };
  EXPECT_THAT(fault("hub = \"a\"\nhere = \"b\"\nmap = { x = \"h i -> i h\", y = \"h i -> h i\" }"),
              HasSubstr("different tensors here"));
  EXPECT_THAT(fault("hub = \"{a,b}\"\nhere = \"c\"\nmap = { x = \"f, f -> ([1 1] f)\", y = \"f, f "
                    "-> (f [1 1])\" }"),
              HasSubstr("one hub name"));
}

TEST(DropTest, OfAHubNameLeavesItOutByName) {
  const Recipe recipe = Read(R"(
[[rule]]
hub  = "thinker.{rest*}"
here = "{rest*}"
[[drop]]
hub = "talker.{rest*}"
why = "not trained"
)");
  const auto mapping = FromHub(recipe, {}, "talker.w", {2});
  ASSERT_TRUE(mapping);
  EXPECT_TRUE(mapping->tensors.empty());
  ASSERT_EQ(mapping->dropped_parts.size(), 1u);
  EXPECT_EQ(mapping->dropped_parts[0].name, "talker.w");
  EXPECT_EQ(mapping->dropped_parts[0].why, "not trained");
}

TEST(DropTest, HasOneSideAndNoNameThatARuleHas) {
  const std::string rule = "[[rule]]\nhub = \"a.{r*}\"\nhere = \"{r*}\"\n";
  EXPECT_THAT(FaultIn(rule + "[[drop]]\nwhy = \"w\""), HasSubstr("either 'here' or 'hub'"));
  EXPECT_THAT(FaultIn(rule + "[[drop]]\nhub = \"b\"\nhere = \"b\"\nwhy = \"w\""),
              HasSubstr("either 'here' or 'hub'"));
  EXPECT_THAT(FaultIn(rule + "[[drop]]\nhub = \"{x}.b\"\nwhy = \"w\""), HasSubstr("both claim"));
}

TEST(RefuseTest, ALayoutOrAModel) {
  const Recipe recipe = Read(R"(
[[rule]]
hub   = "a.{layer}"
here  = "a.{layer}"
stage = "vit.layer"
[[refuse]]
when = "vit_tp > 1"
why  = "never seen"
[[refuse]]
when = "latent == 0"
why  = "no names"
)");
  const auto found = [&](const std::string& json, const LayoutRequest& layout) {
    const ModelConfig config = Config(json);
    const auto checked = BoundRecipe::Bind(recipe, config, {})->CheckRefusals(layout);
    return checked ? "" : checked.error().found;
  };
  EXPECT_EQ(found("{}", {.tp = 1}), "");
  EXPECT_EQ(found("{}", {.tp = 2}), "never seen");
  EXPECT_EQ(found("{}", {.tp = 2, .part_tp = {{"vit", 1}}}), "");
  EXPECT_EQ(found("{}", {.tp = 1, .part_tp = {{"vit", 2}}}), "never seen");
  EXPECT_EQ(found(R"({"latent": false})", {.tp = 1}), "no names");
  EXPECT_EQ(found(R"({"latent": true})", {.tp = 1}), "");
  EXPECT_THAT(FaultIn("[[refuse]]\nwhy = \"w\""), HasSubstr("either 'when' or 'hub'"));
  EXPECT_EQ(found("{}", {.tp = 1, .part_layers = {{"vit", {{1}}}}}), "");
  EXPECT_THAT(found("{}", {.tp = 1, .part_layers = {{"audio", {{1}}}}}), HasSubstr("part 'audio'"));
}

// Two language models behind one class, told by a text of the config.
constexpr const char* kTwoModels = R"(
[[include]]
part   = "text"
hub    = "old."
config = ["llm"]
when   = "architectures.Old"
[[include]]
part   = "text"
hub    = "new."
config = ["llm"]
when   = "not architectures.Old"
)";
constexpr const char* kText = R"(
[[rule]]
hub  = "w"
here = "w"
[[rule]]
hub  = "b"
here = "b"
when = "biased"
[sizes]
biased = "bias"
)";

TEST(IncludeTest, ItsConditionIsOneOfEveryRule) {
  const Recipe recipe = Read(kTwoModels, kText);
  const auto hub_names = [&](const std::string& json) {
    const ModelConfig config = Config(json);
    const auto bound = BoundRecipe::Bind(recipe, config, {});
    std::vector<std::string> names;
    for (const Rule* rule : bound->rules()) names.push_back(rule->hub[0].text());
    return names;
  };
  EXPECT_THAT(hub_names(R"({"llm": {"architectures": ["Old"]}})"), ElementsAre("old.w"));
  EXPECT_THAT(hub_names(R"({"llm": {"architectures": ["Old"], "bias": true}})"),
              ElementsAre("old.w", "old.b"));
  EXPECT_THAT(hub_names(R"({"llm": {"architectures": ["New"]}})"), ElementsAre("new.w"));
  EXPECT_THAT(hub_names(R"({"architectures": ["Old"]})"), ElementsAre("new.w"));
}

TEST(ModelConfigTest, TextsAreFlags) {
  const ModelConfig config = Config(
      R"({"architectures": ["A", "B"], "sub": {"type": "mla"}, "sizes": [1, 2], "mix": [1, "x"]})");
  EXPECT_THAT(config.architectures(), ElementsAre("A", "B"));
  EXPECT_EQ(config.Number("architectures.B"), 1);
  EXPECT_EQ(config.Number("sub.type.mla"), 1);
  EXPECT_EQ(config.Number("sub.type.gqa"), std::nullopt);
  EXPECT_EQ(config.Number("sub.type"), std::nullopt);
  ASSERT_NE(config.List("sizes"), nullptr);
  EXPECT_THAT(*config.List("sizes"), ElementsAre(1, 2));
  EXPECT_EQ(config.List("mix"), nullptr);
  ASSERT_NE(config.List("architectures.B"), nullptr);
  EXPECT_THAT(*config.List("architectures.B"), ElementsAre(1)) << "the places where it stands";
}

}  // namespace
}  // namespace reshard
