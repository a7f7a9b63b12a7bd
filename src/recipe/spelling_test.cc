// Which rule takes a name: other spellings, numbers that lead nowhere, names that are refused, and
// tensors that only one side has.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipe/bound_recipe.h"
#include "recipe/model_config.h"
#include "recipe/recipe.h"
#include "view/view.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<Recipe> Read(const std::string& body, const std::string& part = "") {
  return Recipe::Parse("name = \"x\"\n" + body, "x.toml",
                       [&](const std::string&) -> Result<std::string> { return part; });
}

std::string FaultIn(const std::string& body) {
  auto recipe = Read(body);
  return recipe ? "" : recipe.error().found;
}

ModelConfig Config(const std::string& json) { return *ModelConfig::Parse(json, "config.json"); }

Mapping Tensors(const std::vector<std::string>& names, const Shape& shape) {
  Mapping mapping;
  for (const std::string& name : names)
    mapping.tensors.push_back(
        {name, View::Source(static_cast<uint32_t>(mapping.tensors.size()), DType::kFloat32, shape)});
  return mapping;
}

std::vector<std::string> Names(const Mapping& mapping) {
  std::vector<std::string> names;
  for (const NamedView& tensor : mapping.tensors) names.push_back(tensor.name);
  return names;
}

Result<Mapping> ToHub(const Recipe& recipe, const std::vector<std::string>& names,
                      const ModelConfig& config = {}, const Shape& shape = {2}) {
  Mapping mapping = Tensors(names, shape);
  auto bound = BoundRecipe::Bind(recipe, config, {});
  if (!bound) return std::unexpected(bound.error());
  if (auto done = bound->ToHub(&mapping); !done) return std::unexpected(done.error());
  return mapping;
}

Result<Mapping> FromHub(const Recipe& recipe, const std::vector<std::string>& names,
                        const ModelConfig& config = {}, const Shape& shape = {2}) {
  Mapping mapping = Tensors(names, shape);
  auto bound = BoundRecipe::Bind(recipe, config, {});
  if (!bound) return std::unexpected(bound.error());
  if (auto done = bound->FromHub(&mapping, {}); !done) return std::unexpected(done.error());
  return mapping;
}

TEST(AliasTest, OfNamesHereIsReadAndNeverWritten) {
  const Recipe recipe = *Read(R"(
[[rule]]
hub  = "model.{layer}.{q|k}"
here = "layers.{layer}.{q|k}.now"
[[alias]]
other = "layers.{layer}.{q|k}"
here  = "layers.{layer}.{q|k}.now"
)");
  const auto hub = ToHub(recipe, {"layers.0.q", "layers.1.k.now"});
  ASSERT_TRUE(hub) << hub.error().ToString();
  EXPECT_THAT(Names(*hub), ElementsAre("model.0.q", "model.1.k"));
  EXPECT_THAT(Names(*FromHub(recipe, {"model.0.q", "model.1.k"})),
              ElementsAre("layers.0.q.now", "layers.1.k.now"));
  // A name of the other side is not meant.
  EXPECT_EQ(ToHub(recipe, {"model.0.q"}).error().kind, ErrorKind::kMapping);
}

TEST(AliasTest, ATensorInTwoSpellingsIsRefused) {
  const Recipe recipe = *Read(R"(
[[rule]]
hub  = "h"
here = "now"
[[alias]]
other = "then"
here  = "now"
)");
  const auto twice = ToHub(recipe, {"now", "then"});
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().found, HasSubstr("in two spellings"));
}

TEST(AliasTest, WhatIsDroppedUnderAnotherSpellingIsNamed) {
  const Recipe recipe = *Read(R"(
[[rule]]
hub  = "h"
here = "h"
[[drop]]
here = "state.{rest*}"
why  = "no weight"
[[alias]]
other = "old_state.{rest*}"
here  = "state.{rest*}"
)");
  const auto hub = ToHub(recipe, {"h", "old_state.x", "state.y"});
  ASSERT_TRUE(hub);
  ASSERT_EQ(hub->dropped.size(), 1u);
  EXPECT_EQ(hub->dropped[0].name, "state.y");
  ASSERT_EQ(hub->dropped_parts.size(), 1u);
  EXPECT_EQ(hub->dropped_parts[0].name, "state.x");
}

TEST(AliasTest, OfAPartStandsBehindItsPrefix) {
  const Recipe recipe = *Read("[[include]]\npart = \"p\"\nhere = \"mtp.{n}.\"\nhub = \"m.{n}.\"\n", R"(
[[rule]]
hub  = "w"
here = "now"
[[alias]]
other = "then"
here  = "now"
)");
  EXPECT_THAT(Names(*ToHub(recipe, {"mtp.3.then"})), ElementsAre("m.3.w"));
}

TEST(AliasTest, MistakesAreFoundWhenTheRecipeIsRead) {
  const std::string rule = "[[rule]]\nhub = \"h\"\nhere = \"now\"\n";
  EXPECT_THAT(FaultIn(rule + "[[alias]]\nother = \"x\""), HasSubstr("either 'here' or 'hub'"));
  EXPECT_THAT(FaultIn(rule + "[[alias]]\nother = \"x\"\nhere = \"now\"\nhub = \"h\""),
              HasSubstr("either 'here' or 'hub'"));
  EXPECT_THAT(FaultIn(rule + "[[alias]]\nother = \"x.{n}\"\nhere = \"now\""),
              HasSubstr("no map of names"));
  EXPECT_THAT(FaultIn(rule + "[[alias]]\nother = \"x\"\nhere = \"nwo\""),
              HasSubstr("no rule has names like 'nwo'"));
  EXPECT_THAT(FaultIn(rule + "[[alias]]\nother = \"now\"\nhere = \"now\""),
              HasSubstr("a rule claims such names"));
}

constexpr const char* kMtp = R"(
[[include]]
part  = "layer"
hub   = "model.{layer}."
here  = "mtp.{n}."
index = { n = "layer - count" }
[[include]]
part      = "layer"
hub       = "model.{layer}."
here      = "layers.{layer}."
otherwise = true
)";
constexpr const char* kLayer = "[[rule]]\nhub = \"w\"\nhere = \"w\"\n";

TEST(IndexTest, ANumberThatLeadsNowhereIsLeftToAnotherRule) {
  const Recipe recipe = *Read(kMtp, kLayer);
  const ModelConfig config = Config(R"({"count": 2})");
  const auto here = FromHub(recipe, {"model.0.w", "model.1.w", "model.2.w", "model.10.w"}, config);
  ASSERT_TRUE(here) << here.error().ToString();
  EXPECT_THAT(Names(*here), ElementsAre("layers.0.w", "layers.1.w", "mtp.0.w", "mtp.8.w"));
  EXPECT_THAT(Names(*ToHub(recipe, Names(*here), config)),
              ElementsAre("model.0.w", "model.1.w", "model.10.w", "model.2.w"));
}

TEST(OtherwiseTest, TakesInTheOrderOfTheFileAndDropsLast) {
  const Recipe recipe = *Read(R"(
[[drop]]
here      = "{all*}"
why       = "the rest"
otherwise = true
[[rule]]
hub  = "h"
here = "new"
[[rule]]
hub       = "h"
here      = "old"
otherwise = true
)");
  EXPECT_THAT(Names(*ToHub(recipe, {"old", "other"})), ElementsAre("h"));
  EXPECT_THAT(Names(*FromHub(recipe, {"h"})), ElementsAre("new"));
  EXPECT_EQ(ToHub(recipe, {"new", "old"}).error().kind, ErrorKind::kMapping);  // both become 'h'
}

TEST(RefuseTest, ANameOfTheHub) {
  const Recipe recipe = *Read(R"(
[[rule]]
hub  = "{name}.weight"
here = "{name}.w"
[[refuse]]
hub = "{name*}.weight_{scale,zero}"
why = "it is quantized"
)");
  EXPECT_TRUE(FromHub(recipe, {"a.weight"}));
  const auto refused = FromHub(recipe, {"a.weight", "a.weight_scale"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().found, "it is quantized");
  EXPECT_EQ(refused.error().tensor, "a.weight_scale");
  EXPECT_THAT(ToHub(recipe, {"a.weight_zero"}).error().found, HasSubstr("has no rule"));
  EXPECT_THAT(FaultIn("[[rule]]\nhub = \"a\"\nhere = \"a\"\n[[refuse]]\nwhy = \"w\""),
              HasSubstr("either 'when' or 'hub'"));
}

constexpr const char* kZero = R"(
[sizes]
e = "experts"
[[rule]]
hub  = "gate.{layer}"
here = "router.{layer}"
map  = "e h"
[[zero]]
hub   = "gate.{layer}"
here  = "bias.{layer}"
map   = "e"
dtype = "bfloat16"
)";

TEST(ZeroTest, IsMadeHereAndCheckedOnTheWayBack) {
  const Recipe recipe = *Read(kZero);
  const ModelConfig config = Config(R"({"experts": 3})");
  auto here = FromHub(recipe, {"gate.0", "gate.1"}, config, {3, 4});
  ASSERT_TRUE(here) << here.error().ToString();
  ASSERT_THAT(Names(*here), ElementsAre("bias.0", "bias.1", "router.0", "router.1"));
  EXPECT_EQ(here->tensors[1].view.shape(), (Shape{3}));
  EXPECT_EQ(here->tensors[1].view.dtype(), DType::kBFloat16);
  EXPECT_EQ(here->tensors[1].view.op(), View::Op::kFill);

  Mapping back = Tensors({"bias.0", "router.0"}, {3, 4});
  ASSERT_TRUE(BoundRecipe::Bind(recipe, config, {})->ToHub(&back));
  EXPECT_THAT(Names(back), ElementsAre("gate.0"));
  ASSERT_EQ(back.checks.size(), 1u);
  EXPECT_EQ(back.checks[0].name, "bias.0");
  EXPECT_EQ(back.checks[0].equals.op(), View::Op::kFill);
  EXPECT_THAT(back.checks[0].why, HasSubstr("the hub has no place for it"));
}

TEST(ZeroTest, ItsSizeMustBeKnown) {
  const auto here = FromHub(*Read(kZero), {"gate.0"}, {}, {3, 4});
  ASSERT_FALSE(here);
  EXPECT_THAT(here.error().found, HasSubstr("the size of 'e'"));
}

TEST(ZeroTest, MistakesAreFoundWhenTheRecipeIsRead) {
  const std::string rule = "[[rule]]\nhub = \"g\"\nhere = \"r\"\n[[zero]]\nhub = \"g\"\n";
  EXPECT_THAT(FaultIn(rule + "here = \"z\"\ndtype = \"float32\""), HasSubstr("'map' is missing"));
  EXPECT_THAT(FaultIn(rule + "here = \"z\"\nmap = \"e\""), HasSubstr("'dtype' is missing"));
  EXPECT_THAT(FaultIn(rule + "here = \"z\"\nmap = \"e\"\ndtype = \"real\""),
              HasSubstr("'real' is no type"));
  EXPECT_THAT(FaultIn(rule + "here = \"r\"\nmap = \"e\"\ndtype = \"float32\""),
              HasSubstr("both claim"));
}

}  // namespace
}  // namespace reshard
