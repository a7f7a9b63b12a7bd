#include "recipe/pattern.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>

#include "recipe/regex.h"

namespace reshard {
namespace {

Pattern P(std::string_view text) { return *Pattern::Parse(text); }

TEST(PatternTest, ComponentAndWideCaptures) {
  const Pattern pattern = P("model.layers.{layer}.{rest*}.weight");
  const auto captures = pattern.Match("model.layers.12.mlp.up_proj.weight");
  ASSERT_TRUE(captures);
  EXPECT_EQ(captures->at("layer"), "12");
  EXPECT_EQ(captures->at("rest"), "mlp.up_proj");
  EXPECT_EQ(P("h.{layer}.{rest*}").Fill(*captures), "h.12.mlp.up_proj");
  EXPECT_FALSE(pattern.Match("model.layers.12.weight"));
  EXPECT_FALSE(pattern.Match("model.layers..x.weight"));
  EXPECT_FALSE(P("a.{x}").Match("a.b.c"));
  EXPECT_FALSE(P("a.{x*}").Match("a."));
}

TEST(PatternTest, RefusesWhatIsAmbiguousOrUnbalanced) {
  for (const char* bad : {"{", "}", "a{b", "{a}{b}", "{a*}.{b*}", "{a}.{a}", "{A}", "{}", "{*}"})
    EXPECT_FALSE(Pattern::Parse(bad)) << bad;
}

TEST(PatternTest, OverlapOfExamples) {
  EXPECT_TRUE(Pattern::Overlap(P("a.{x}"), P("a.b")));
  EXPECT_FALSE(Pattern::Overlap(P("a.{x}"), P("a.b.c")));
  EXPECT_TRUE(Pattern::Overlap(P("a.{x*}"), P("a.b.c")));
  EXPECT_TRUE(Pattern::Overlap(P("{x*}.weight"), P("model.{y*}")));
  EXPECT_FALSE(Pattern::Overlap(P("{x}.weight"), P("{y}.bias")));
  EXPECT_TRUE(Pattern::Overlap(P("l{x}.q"), P("{y}1.q")));
}

// A name that both match proves an overlap; over a small alphabet, short names are witness enough.
TEST(PatternTest, OverlapAgreesWithTryingAllShortNames) {
  std::vector<std::string> names{""};
  for (size_t i = 0; i < names.size() && names[i].size() < 6; ++i)
    for (char c : {'a', 'b', '.'}) names.push_back(names[i] + c);
  EXPECT_TRUE(rc::check([&] {
    const auto pattern = [] {
      const auto pieces = *rc::gen::container<std::vector<std::string>>(
          *rc::gen::inRange<size_t>(1, 4), rc::gen::element<std::string>("a", ".", "b", "?"));
      std::string text;
      int captures = 0;
      for (const std::string& piece : pieces) {
        const bool capture = piece == "?" && !text.ends_with('}');
        text += capture ? "{c" + std::to_string(captures++) + "}" : piece == "?" ? "a" : piece;
      }
      return P(text);
    };
    const Pattern a = pattern(), b = pattern();
    const bool witness = std::ranges::any_of(
        names, [&](const std::string& name) { return a.Match(name) && b.Match(name); });
    RC_ASSERT(Pattern::Overlap(a, b) == witness);
  }));
}

TEST(RegexTest, SearchesAnywhereAndReportsFaults) {
  const auto regex = Regex::Compile(R"(layers\.(?P<n>\d+)\.)");
  ASSERT_TRUE(regex);
  EXPECT_TRUE(*regex->Search("model.layers.10.w"));
  EXPECT_FALSE(*regex->Search("model.layers.x.w"));
  EXPECT_FALSE(*regex->Search("\xff\xfe"));
  EXPECT_EQ(Regex::Compile("(").error().kind, ErrorKind::kUsage);
}

TEST(RegexTest, ABombIsAnErrorNotAnAnswer) {
  const auto regex = Regex::Compile("(a+)+$");
  EXPECT_FALSE(regex->Search(std::string(64, 'a') + "b"));
}

}  // namespace
TEST(PatternTest, DistanceCountsChangesOutsideCaptures) {
  const Pattern pattern = *Pattern::Parse("layers.{layer}.attn.weight");
  EXPECT_EQ(pattern.Distance("layers.0.attn.weight"), 0u);
  EXPECT_EQ(pattern.Distance("layers.1234.attn.weight"), 0u);
  EXPECT_EQ(pattern.Distance("layers.7.attn.weights"), 1u);
  EXPECT_EQ(pattern.Distance("layer.7.atn.weight"), 2u);
  EXPECT_EQ(pattern.Distance("layers..attn.weight"), 1u) << "a capture takes at least a character";
  EXPECT_EQ(pattern.Distance("layers.7.x.attn.weight"), 1u) << "a dot in a capture";
  EXPECT_EQ(Pattern::Parse("a.{rest*}")->Distance("a.xyz"), 3u) << "or it would be near to all";
  EXPECT_EQ(pattern.Distance(""), pattern.text().size() - std::string("{layer}").size() + 1);
  EXPECT_LT(Pattern::Parse("layers.{layer}.attn.wq.weight")->Distance("layers.2.attn.wx.weight"),
            Pattern::Parse("layers.{layer}.ln.weight")->Distance("layers.2.attn.wx.weight"));
}

}  // namespace reshard
