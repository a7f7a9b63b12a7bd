#include "recipe/recipe_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipe/bound_recipe.h"

namespace reshard {
namespace {

using testing::HasSubstr;

// A recipe that deals out layers, with more rules behind it.
std::string FaultOf(const std::string& more) {
  const auto recipe = Recipe::Parse(R"(name = "x"
[sizes]
f = "intermediate_size"
v = "vocab_size"
tied = "tie"
[[rule]]
hub = "m.{layer}.a"
here = "l.{layer}.a"
map = "f h"
tp = "f"
stage = "llm.layer"
[[rule]]
hub = "embed"
here = "embed"
map = "v h"
pad = "v"
stage = "llm.first"
)" + more,
                                    "x.toml");
  return recipe ? std::string() : recipe.error().file + " " + recipe.error().found;
}

std::string Rule(const std::string& hub, const std::string& here, const std::string& fields,
                 const std::string& kind = "rule") {
  return "[[" + kind + "]]\nhub = \"" + hub + "\"\nhere = \"" + here + "\"\n" + fields;
}

TEST(RecipeChecksTest, TheRulesAreCorrect) { EXPECT_EQ(FaultOf(""), ""); }

TEST(RecipeChecksTest, StagesMustBeSaidAndAgree) {
  EXPECT_THAT(FaultOf(Rule("n", "n", "")), HasSubstr("x.toml:18 'n' has no stage"));
  EXPECT_EQ(FaultOf(Rule("n", "n", "stage = 'every'")), "");
  EXPECT_THAT(FaultOf(Rule("n", "n", "stage = 'vit.last'")), HasSubstr("no layers"));
  EXPECT_THAT(FaultOf(Rule("m.{layer}.b", "l.{layer}.b", "stage = 'llm.first'")),
              HasSubstr("different stages"));
  EXPECT_EQ(FaultOf(Rule("mtp.{layer}.b", "mtp.{layer}.b", "stage = 'llm.last'")), "")
      << "other layers may stand elsewhere";
}

TEST(RecipeChecksTest, ExpertsAreDealtOutByAllRulesOrNone) {
  const std::string one = Rule("m.{layer}.e.{expert}.w", "l.{layer}.e{expert}.w",
                               "ep = 'expert'\nstage = 'llm.layer'\n");
  EXPECT_EQ(FaultOf(one), "");
  EXPECT_THAT(
      FaultOf(one + Rule("m.{layer}.e.{expert}.b", "l.{layer}.e{expert}.b", "stage = 'llm.layer'")),
      HasSubstr("not of 'l.{layer}.e{expert}.b'"));
  EXPECT_THAT(FaultOf(Rule("m.{layer}.s", "l.{layer}.s",
                           "map = 'x y'\ntp = 'x'\nep = 'x'\nstage = 'llm.layer'")),
              HasSubstr("both tp and ep"));
}

TEST(RecipeChecksTest, ANamedSizeIsCutEverywhereOrNowhere) {
  const auto with = [](const std::string& fields) {
    return FaultOf(Rule("m.{layer}.b", "l.{layer}.b", fields + "\nstage = 'llm.layer'"));
  };
  EXPECT_THAT(with("map = 'h f'"), HasSubstr("'f' of 'l.{layer}.b' is not cut by tp"));
  EXPECT_THAT(with("map = 'h f'\ntp = 'h'"), HasSubstr("not cut by tp"));
  EXPECT_EQ(with("map = 'h f'\ntp = 'f'"), "");
  EXPECT_EQ(with("map = 'h other'"), "") << "an axis of another name is another axis";
}

TEST(RecipeChecksTest, PaddingIsOfTheFirstDimensionAndKnown) {
  const auto with = [](const std::string& fields) {
    return FaultOf(Rule("head", "head", fields + "\nstage = 'llm.last'"));
  };
  EXPECT_EQ(with("map = 'v h'\npad = 'v'"), "");
  EXPECT_THAT(with("map = 'v h'"), HasSubstr("not padded"));
  EXPECT_THAT(with("map = 'h v'\npad = 'v'"), HasSubstr("is padded along 'v'"));
  EXPECT_THAT(with("map = 'v h -> h v'\npad = 'v'"), HasSubstr("is padded along 'v'"));
  EXPECT_THAT(with("map = 'w h'\npad = 'w'"), HasSubstr("does not say how long 'w' is"));
}

TEST(RecipeChecksTest, UnderEveryConditionATensorHasAnOrigin) {
  const std::string head =
      Rule("head", "head", "map = 'v h'\npad = 'v'\nstage = 'llm.last'\nwhen = 'not tied'\n");
  const std::string copy =
      Rule("embed", "head",
           "map = 'v h'\npad = 'v'\nstage = 'llm.last'\nwhen = 'tied and pp > 1'\n", "copy");
  const std::string tie = "[[tie]]\nhub = \"head\"\nof = \"embed\"\nwhen = \"tied\"\n";
  EXPECT_EQ(FaultOf(head + copy + tie), "");
  EXPECT_THAT(FaultOf(head + tie), HasSubstr("nothing says what 'head' is"));
  EXPECT_THAT(FaultOf(head), HasSubstr("nothing says what 'head' is"));
  EXPECT_EQ(FaultOf(Rule("head", "head", "stage = 'llm.last'\nwhen = 'tied'\noptional = true")),
            "");
}

TEST(RecipeChecksTest, ConditionsAskForWhatIsNamed) {
  const auto with = [](const std::string& when) {
    return FaultOf(Rule("n", "n", "stage = 'every'\nwhen = '" + when + "'"));
  };
  EXPECT_EQ(with("tied and pp > 1"), "");
  EXPECT_EQ(with("architectures.OneForCausalLM or not text_config.tied"), "");
  EXPECT_THAT(with("tide"), HasSubstr("'tide'"));
  EXPECT_THAT(with("pp > 1 and not tide"), HasSubstr("'tide'"));
}

TEST(RecipeChecksTest, AConditionOnTheLayerAsksForWhatIsNamed) {
  const auto with = [](const std::string& where) {
    return FaultOf(
        Rule("m.{layer}.b", "l.{layer}.b", "stage = 'llm.layer'\nwhere = '" + where + "'"));
  };
  EXPECT_EQ(with("layer < v and not layer in text.some"), "");
  EXPECT_EQ(with("layer % (text_config.step ?? 1) == 0"), "");
  EXPECT_THAT(with("layer < w"), HasSubstr("'w'"));
  EXPECT_THAT(with("tp > 1"), HasSubstr("'tp'"));
  EXPECT_THAT(with("layer <"), HasSubstr("layer <"));
  EXPECT_THAT(FaultOf(Rule("n", "n", "stage = 'every'\nwhere = 'layer < v'")),
              HasSubstr("without {layer}"));
}

TEST(RecipeChecksTest, ADropOfWhateverIsLeftHidesHoles) {
  EXPECT_THAT(FaultOf("[[drop]]\nhere = \"{x*}\"\nwhy = \"y\"\notherwise = true"),
              HasSubstr("have forgotten"));
  EXPECT_EQ(FaultOf("[[drop]]\nhere = \"{x*}.state\"\nwhy = \"y\""), "");
}

TEST(RecipeChecksTest, CopiesAndTiesAreOfOneTensor) {
  const auto fault = [](const std::string& body) {
    const auto recipe =
        Recipe::Parse("name = 'x'\n[[rule]]\nhub = 'a.{x}'\nhere = 'a.{x}'\n" + body, "x.toml");
    return recipe ? std::string() : recipe.error().found;
  };
  EXPECT_THAT(fault("[[copy]]\nhub = 'b.{q,k}'\nhere = 'b'\nmap = 'f, f -> ([1 1] f)'"),
              HasSubstr("one name on each side"));
  EXPECT_THAT(fault("[[copy]]\nhub = 'b.{e}'\nhere = 'b'\nmap = 'f -> e f'"),
              HasSubstr("one name on each side"));
  EXPECT_THAT(fault("[[tie]]\nhub = 'b'\nof = 'a.{x}'"), HasSubstr("'of'"));
  EXPECT_THAT(fault("[[tie]]\nhub = 'b.{x}'\nof = ['a.{x}', 'c.{x}']"), HasSubstr("'of'"));
  EXPECT_EQ(fault("[[tie]]\nhub = 'b.{x}'\nof = 'a.{x}'"), "");
}

TEST(RecipeChecksTest, BombsOfNamesAreErrors) {
  std::string choices, lists;
  for (char c = 'a'; c < 'y'; ++c) {
    choices += "{" + std::string(1, c) + "|x" + c + "}";
    lists += "{a,b}";
  }
  EXPECT_THAT(FaultOf(Rule(choices, choices, "stage = 'every'")), HasSubstr("too many rules"));
  EXPECT_THAT(FaultOf(Rule(lists, "n", "stage = 'every'")), HasSubstr("too many names"));
}

TEST(IndexTest, NumbersThatGoBelowZeroOrOverAreErrors) {
  const auto to_hub = [](const std::string& index, const std::string& name) {
    const Recipe recipe = *Recipe::Parse(
        "name = 'x'\n[[rule]]\nhub = 'h.{n}'\nhere = 'l.{n}'\n"
        "index = { n = \"" +
            index + "\" }",
        "x.toml");
    const ModelConfig config = *ModelConfig::Parse(R"({"table": [7, 3]})", "c");
    const BoundRecipe bound = *BoundRecipe::Bind(recipe, config, {});
    Mapping mapping{.tensors = {{name, View::Source(0, DType::kFloat32, {1})}}};
    const auto done = bound.ToHub(&mapping);
    return done ? mapping.tensors[0].name : done.error().found;
  };
  EXPECT_EQ(to_hub("n + 1", "l.3"), "h.2");
  EXPECT_THAT(to_hub("n + 1", "l.0"), HasSubstr("no table"));
  EXPECT_THAT(to_hub("n - 9223372036854775807", "l.2147483647"), HasSubstr("no table"));
  EXPECT_EQ(to_hub("table[n]", "l.3"), "h.1");
  EXPECT_THAT(to_hub("table[n]", "l.4"), HasSubstr("no table"));
  EXPECT_THAT(to_hub("tables[n]", "l.3"), HasSubstr("no table"));
  for (const char* name : {"l.x", "l.-1", "l.03", "l.+3", "l.99999999999999999999"})
    EXPECT_THAT(to_hub("n + 1", name), HasSubstr("no table")) << name;
}

}  // namespace
}  // namespace reshard
