#include "recipe/pattern.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <regex>

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

// The standard library's regular expressions, lazy, resolve ambiguity to the left by trying all ways.
TEST(PatternTest, CapturesAreThoseOfALazyRegularExpression) {
  EXPECT_TRUE(rc::check([] {
    const auto pieces = *rc::gen::container<std::vector<std::string>>(
        *rc::gen::inRange<size_t>(1, 8), rc::gen::element<std::string>("a", ".", "b", "a.", "?", "*"));
    std::string text, expression, name;
    const auto some = [](auto... letters) {
      return *rc::gen::container<std::string>(*rc::gen::inRange<size_t>(0, 4),
                                              rc::gen::element(letters...));
    };
    size_t captures = 0;
    bool wide = false;
    for (const std::string& piece : pieces) {
      const bool is_capture = (piece == "?" || (piece == "*" && !wide)) && !text.ends_with('}');
      if (!is_capture) {
        const std::string literal = piece == "?" || piece == "*" ? "b" : piece;
        text += literal;
        name += literal;
        for (char c : literal) expression += std::string("[") + c + "]";
        continue;
      }
      wide = wide || piece == "*";
      text += "{c" + std::to_string(captures++) + (piece == "*" ? "*}" : "}");
      expression += piece == "*" ? "([^]+?)" : "([^.]+?)";
      name += piece == "*" ? some('a', 'b', '.') : some('a', 'a', 'b');
    }
    std::smatch expected;
    const bool matches = std::regex_match(name, expected, std::regex(expression));
    const auto found = P(text).Match(name);
    RC_TAG(matches, captures);
    RC_ASSERT(found.has_value() == matches);
    for (size_t i = 0; matches && i < captures; ++i)
      RC_ASSERT(found->at("c" + std::to_string(i)) == expected[i + 1].str());
  }));
}

// Each took exponential time, as a name that fits all but its end.
TEST(PatternTest, ManyCapturesInOneComponent) {
  std::string many = "{c}", between = "{c}";
  for (int i = 0; i < 40; ++i) {
    many += "_{c" + std::to_string(i) + "}";
    between += "_{d" + std::to_string(i) + "}";
  }
  const std::string name(2000, '_');
  EXPECT_FALSE(P(many + ".x").Match(name));
  EXPECT_FALSE(P("{rest*}_" + between + ".x").Match(name));
  EXPECT_TRUE(P("{rest*}_" + between).Match(name));
  EXPECT_TRUE(P(many).Match(name));
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
