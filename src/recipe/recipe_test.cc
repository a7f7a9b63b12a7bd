#include "recipe/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipe/bound_recipe.h"
#include "recipe/embedded_recipes.h"
#include "view/catalog_builder.h"

namespace reshard {
namespace {

Catalog WithNames(const std::vector<std::string>& names) {
  CatalogBuilder builder;
  builder.AddFile({.path = "f", .size = 4});
  for (const std::string& name : names) {
    builder.AddTensor(name, DType::kFloat32, {1});
    builder.AddWhole(0, 0, 4);
  }
  return *std::move(builder).Build("ckpt");
}

const ModelConfig kNoConfig;

Result<Mapping> ToHub(const Recipe& recipe, const Catalog& catalog,
                      const std::vector<Regex>& ignore = {}) {
  auto mapping = SourceTensors(catalog, ignore);
  const auto bound = BoundRecipe::Bind(recipe, kNoConfig, {});
  if (auto mapped = bound->ToHub(&*mapping); !mapped) return std::unexpected(mapped.error());
  return mapping;
}

std::vector<std::string> HubNames(const Recipe& recipe, const Catalog& catalog) {
  std::vector<std::string> names;
  const Mapping mapping = *ToHub(recipe, catalog);
  for (const NamedView& tensor : mapping.tensors) names.push_back(tensor.name);
  return names;
}

TEST(RecipeTest, EveryBuiltInRecipeParses) {
  size_t whole = 0;
  for (const EmbeddedRecipe& embedded : kEmbeddedRecipes) {
    if (embedded.name.starts_with("parts/")) continue;
    ++whole;
    auto recipe = Recipe::Parse(embedded.text, std::string(embedded.name), EmbeddedPart);
    ASSERT_TRUE(recipe) << recipe.error().ToString();
    EXPECT_EQ(recipe->name() + ".toml", embedded.name);
  }
  EXPECT_EQ(BuiltInRecipes().size(), whole);
}

TEST(RecipeTest, VeomniStripsTheWrapperAndDropsTheRest) {
  const Catalog catalog =
      WithNames({"model.model.layers.0.w", "model.lm_head.weight", "model.thinker.w",
                 "optimizer.state.model.layers.0.w.exp_avg"});
  const Recipe recipe = *LoadRecipe("veomni");
  const Mapping mapping = *ToHub(recipe, catalog);
  EXPECT_THAT(HubNames(recipe, catalog),
              testing::ElementsAre("lm_head.weight", "model.layers.0.w", "thinker.w"));
  ASSERT_EQ(mapping.dropped.size(), 1u);
  EXPECT_EQ(mapping.dropped[0].why, "not a model weight");
  EXPECT_THAT(mapping.warnings,
              testing::ElementsAre("Found unexpected DCP key format 'model.thinker.w', stripping "
                                   "leading 'model.' prefix."));
}

TEST(RecipeTest, AutoTellsTheErasByTheirNames) {
  const auto chosen = [](const std::vector<std::string>& names) {
    return ChooseRecipe("auto", WithNames(names), {})->recipe.name();
  };
  EXPECT_EQ(chosen({"model.model.norm.w", "model.lm_head.weight"}), "veomni");
  EXPECT_EQ(chosen({"model.model.model.norm.w", "model.model.lm_head.weight"}), "veomni-old");
  EXPECT_EQ(chosen({"model.layers.0.w", "lm_head.weight"}), "identity");
  EXPECT_EQ(chosen({"model.layers.0.w", "optimizer.state.layers.0.w.exp_avg"}), "veomni");
  EXPECT_EQ(chosen({"model.layers.0.w", "optimizer.state.model.layers.0.w.exp_avg"}), "identity");
}

TEST(RecipeTest, TwoNamesThatBecomeOneAreRefused) {
  const Recipe recipe = *Recipe::Parse(R"(
name = "clash"
[[rule]]
here = "model.{rest*}"
hub = "{rest*}"
[[rule]]
here = "{name*}"
hub = "{name*}"
otherwise = true
)",
                                       "clash.toml");
  auto mapping = ToHub(recipe, WithNames({"model.x", "x"}));
  ASSERT_FALSE(mapping);
  EXPECT_EQ(mapping.error().kind, ErrorKind::kMapping);
  EXPECT_THAT(mapping.error().found, testing::HasSubstr("both become 'x'"));
}

TEST(RecipeTest, ANameWithoutARuleNamesTheNearest) {
  const Recipe recipe = *Recipe::Parse(R"(
name = "small"
[[rule]]
here = "layers.{n}.weight"
hub = "h.{n}.weight"
[[rule]]
here = "norm"
hub = "norm"
)",
                                       "small.toml");
  const Catalog catalog = WithNames({"layers.0.bias"});
  auto mapping = ToHub(recipe, catalog);
  ASSERT_FALSE(mapping);
  EXPECT_EQ(mapping.error().tensor, "layers.0.bias");
  EXPECT_THAT(mapping.error().expected, testing::HasSubstr("layers.{n}.weight"));

  const auto ignored = ToHub(recipe, catalog, {*Regex::Compile("bias$")});
  ASSERT_TRUE(ignored);
  EXPECT_EQ(ignored->dropped[0].why, "--ignore 'bias$'");
}

TEST(RecipeTest, MistakesAreFoundWhenTheRecipeIsRead) {
  const auto fault = [](const std::string& body) {
    auto recipe = Recipe::Parse("name = \"x\"\n" + body, "x.toml");
    return recipe ? std::string() : recipe.error().found;
  };
  EXPECT_THAT(fault("[[rule]]\nhere = \"a.{x}\"\nhub = \"a\""),
              testing::HasSubstr("no axis 'x'"));
  EXPECT_THAT(fault("[[rule]]\nhere = \"a\"\nhub = \"a\"\nhubb = \"b\""),
              testing::HasSubstr("unknown field 'hubb'"));
  EXPECT_THAT(fault("[[rule]]\nhere = \"a.{x}\"\nhub = \"b.{x}\"\n"
                    "[[rule]]\nhere = \"{y}.c\"\nhub = \"{y}.d\""),
              testing::HasSubstr("both claim"));
  EXPECT_THAT(fault("[[rule]]\nhere = \"a\"\nhub = \"c.{x}\""),
              testing::HasSubstr("no axis 'x'"));
  EXPECT_THAT(fault("[[rule]]\nhere = \"a.{x}\"\nhub = \"c.{y}\""),
              testing::HasSubstr("different captures"));
  EXPECT_THAT(fault("[[rule]]\nhere = \"a\"\nhub = \"c\"\n[[rule]]\nhere = \"b\"\nhub = \"c\""),
              testing::HasSubstr("both claim"));
  EXPECT_THAT(fault("[[drop]]\nhere = \"a\""), testing::HasSubstr("'why' is missing"));
  EXPECT_THAT(fault("rule = 3"), testing::HasSubstr("[[rule]]"));
  EXPECT_THAT(fault("[[rule"), testing::Not(testing::IsEmpty()));
}

}  // namespace
}  // namespace reshard
