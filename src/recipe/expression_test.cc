#include "recipe/expression.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "recipe/recipe_test_support.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Optional;

// a is 6, b is 3, zero is 0; nothing else is known.
std::optional<int64_t> LookUpName(std::string_view name) {
  if (name == "a") return 6;
  if (name == "b") return 3;
  if (name == "zero") return 0;
  if (name == "most") return INT64_MAX;
  return std::nullopt;
}

// The list "some" has 1 and 6.
const std::vector<int64_t>* LookUpSome(std::string_view name) {
  static const std::vector<int64_t> kSome = {1, 6};
  return name == "some" ? &kSome : nullptr;
}

std::optional<int64_t> Value(std::string_view text) {
  return *Expression::Parse(text)->Evaluate(LookUpName, LookUpSome);
}

TEST(ExpressionTest, BindsAsInPython) {
  EXPECT_THAT(Value("2 + 3 * 4"), Optional(14));
  EXPECT_THAT(Value("(2 + 3) * 4"), Optional(20));
  EXPECT_THAT(Value("10 - 3 - 2"), Optional(5));
  EXPECT_THAT(Value("12 / 3 / 2"), Optional(2));
  EXPECT_THAT(Value("a / b == 2 and a > b"), Optional(1));
  EXPECT_THAT(Value("a < b or b <= 3"), Optional(1));
  EXPECT_THAT(Value("not a == b"), Optional(1));
  EXPECT_THAT(Value("not zero and not not a"), Optional(1));
  EXPECT_THAT(Value("not (a and b)"), Optional(0));
  EXPECT_THAT(Value("0 or 0 and 1"), Optional(0));
  EXPECT_THAT(Value("a!=b"), Optional(1));
}

TEST(ExpressionTest, RemaindersAreAsInPython) {
  EXPECT_THAT(Value("7 % 3"), Optional(1));
  EXPECT_THAT(Value("(0 - 7) % 3"), Optional(2));
  EXPECT_THAT(Value("1 + 7 % 3 * 2"), Optional(3));
  EXPECT_EQ(Value("7 % x"), std::nullopt);
  EXPECT_FALSE(Expression::Parse("a % zero")->Evaluate(LookUpName));
}

TEST(ExpressionTest, InAList) {
  EXPECT_THAT(Value("a in some"), Optional(1));
  EXPECT_THAT(Value("b in some"), Optional(0));
  EXPECT_THAT(Value("b - 2 in some and not b in some"), Optional(1));
  EXPECT_EQ(Value("x in some"), std::nullopt);
  EXPECT_EQ(Value("a in none"), std::nullopt) << "a list that is not there";
  EXPECT_THAT(Value("not a in none"), Optional(1));
  EXPECT_FALSE(Expression::Parse("a in 3"));
  EXPECT_FALSE(Expression::Parse("a in some + 1"));
  EXPECT_FALSE(Expression::Parse("in in some"));
  EXPECT_THAT(Expression::Parse("layer in some or b")->Names(), ElementsAre("layer", "b"));
}

TEST(ExpressionTest, UnknownNames) {
  EXPECT_EQ(Value("x"), std::nullopt);
  EXPECT_EQ(Value("x + 1"), std::nullopt);
  EXPECT_EQ(Value("x == x"), std::nullopt);
  EXPECT_THAT(Value("x ?? b"), Optional(3));
  EXPECT_THAT(Value("x ?? y ?? 7"), Optional(7));
  EXPECT_THAT(Value("zero ?? b"), Optional(0));
  EXPECT_THAT(Value("x ?? 2 == 2"), Optional(1));
  EXPECT_THAT(Value("not x"), Optional(1));
  EXPECT_THAT(Value("x or a"), Optional(1));
  EXPECT_THAT(Value("x and a"), Optional(0));
  EXPECT_EQ(Value("text_config.hidden_size"), std::nullopt);
}

TEST(ExpressionTest, NamesAreListed) {
  EXPECT_THAT(Expression::Parse("not (a + text_config.b) ?? 3 and pp > 1")->Names(),
              ElementsAre("a", "text_config.b", "pp"));
}

TEST(ExpressionTest, ArithmeticThatIsNotWholeIsAnError) {
  for (const char* bad : {"7 / 2", "1 / 0", "1 / zero", "6 / (0 - 2)", "most + 1", "most * 2",
                          "0 - most - 2", "0 - (0 - most - 1)"}) {
    const auto value = Expression::Parse(bad)->Evaluate(LookUpName);
    ASSERT_FALSE(value) << bad;
    EXPECT_EQ(value.error().kind, ErrorKind::kMapping);
    EXPECT_THAT(value.error().found, HasSubstr(bad));
  }
}

TEST(ExpressionTest, FaultsSayWhere) {
  for (const char* bad : {"",      " ",     "a +", "* a",     "(a",
                          "a)",    "()",    "a b", "a + + b", "not",
                          "and a", "a and", "-1",  "1x",      "99999999999999999999",
                          "a = b", "a & b", "'a'", "a ? b",   "or"})
    EXPECT_EQ(KindOf(Expression::Parse(bad)), ErrorKind::kUsage) << bad;
  EXPECT_THAT(Expression::Parse("heads + ) 3").error().found, HasSubstr("at ') 3'"));
}

TEST(ExpressionTest, DepthAndLengthAreBounded) {
  EXPECT_FALSE(Expression::Parse(std::string(500, '(') + "1" + std::string(499, ')')));
  std::string nots;
  for (int i = 0; i < 200; ++i) nots += "not ";
  EXPECT_FALSE(Expression::Parse(nots + "1"));
  EXPECT_FALSE(Expression::Parse(std::string(2000, '1')));
  std::string sum = "1";
  while (sum.size() < 900) sum += " + 1";
  EXPECT_TRUE(Expression::Parse(sum)->Evaluate(LookUpName));
}

// Text from a tree has the tree's value: what binds how is decided by brackets alone.
struct Tree {
  std::string text;
  int64_t value;
};
Tree RandomTree(int depth) {
  if (depth == 0) {
    const int64_t number = *rc::gen::inRange(0, 20);
    return {fmt::to_string(number), number};
  }
  const Tree left = RandomTree(depth - 1), right = RandomTree(depth - 1);
  const char op = *rc::gen::element('+', '-', '*', '<', '=');
  const int64_t a = left.value, b = right.value;
  const int64_t value = op == '+'   ? a + b
                        : op == '-' ? a - b
                        : op == '*' ? a * b
                        : op == '<' ? a < b
                                    : a == b;
  return {fmt::format("({} {} {})", left.text, op == '=' ? "==" : std::string(1, op), right.text),
          value};
}

TEST(ExpressionTest, BracketsDecide) {
  EXPECT_TRUE(rc::check([] {
    const Tree tree = RandomTree(*rc::gen::inRange(0, 5));
    RC_ASSERT(Value(tree.text) == tree.value);
  }));
}

TEST(ExpressionTest, NoTextBreaksTheParser) {
  EXPECT_TRUE(rc::check([] {
    const auto text = *rc::gen::container<std::string>(
        rc::gen::element('a', '1', '(', ')', '+', '/', '?', ' ', '=', '<', 'n', 'o', 't', '.'));
    if (const auto expression = Expression::Parse(text)) (void)expression->Evaluate(LookUpName);
  }));
}

}  // namespace
}  // namespace reshard
