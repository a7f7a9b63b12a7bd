#include "recipe/expression.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/checked_math.h"
#include "base/try.h"

namespace reshard {

struct Expression::Node {
  std::string op;  // an operator, "name" or "number"
  std::string name{};
  int64_t number = 0;
  std::vector<NodePtr> inputs{};
};

namespace {

// Operators by how strongly they bind, weakest first.
constexpr std::array<std::array<std::string_view, 7>, 6> kLevels = {
    {{"or"},
     {"and"},
     {"==", "!=", "<=", ">=", "<", ">", "in"},
     {"??"},
     {"+", "-"},
     {"*", "/", "%"}}};
constexpr std::array<std::string_view, 4> kWords = {"and", "or", "not", "in"};
constexpr size_t kComparisons = 2;  // the level that `not` applies to
constexpr int kMaxDepth = 64;
constexpr size_t kMaxText = 1000;

bool IsWordChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.';
}

// As Python has it: the remainder of a negative number is not negative.
std::optional<int64_t> Remainder(int64_t a, int64_t b) {
  if (b <= 0) return std::nullopt;
  return a % b < 0 ? a % b + b : a % b;
}

std::optional<int64_t> Combine(std::string_view op, int64_t a, int64_t b) {
  if (op == "+") return CheckedAdd(a, b);
  if (op == "-") return b == INT64_MIN ? std::nullopt : CheckedAdd(a, -b);
  if (op == "*") return CheckedMul(a, b);
  if (op == "/") return b <= 0 || a % b != 0 ? std::nullopt : std::optional(a / b);
  if (op == "%") return Remainder(a, b);
  if (op == "==") return a == b;
  if (op == "!=") return a != b;
  if (op == "<") return a < b;
  if (op == "<=") return a <= b;
  if (op == ">") return a > b;
  return a >= b;
}

}  // namespace

class Expression::Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<NodePtr> Whole() {
    RESHARD_ASSIGN(NodePtr node, Level(0));
    SkipSpace();
    if (at_ != text_.size()) return Fault("the end, or an operator");
    return node;
  }

 private:
  std::unexpected<Error> Fault(std::string expected) const {
    return std::unexpected(
        Error{.kind = ErrorKind::kUsage,
              .found = fmt::format("expression '{}': at '{}'", text_, text_.substr(at_)),
              .expected = std::move(expected)});
  }

  void SkipSpace() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  bool Take(std::string_view token) {
    SkipSpace();
    const std::string_view rest = text_.substr(at_);
    if (token.empty() || !rest.starts_with(token)) return false;
    if (IsWordChar(token.back()) && rest.size() > token.size() && IsWordChar(rest[token.size()]))
      return false;
    at_ += token.size();
    return true;
  }

  Result<NodePtr> Level(size_t level) {
    if (level == kLevels.size()) return Unary();
    if (level == kComparisons && Take("not")) {
      if (++depth_ > kMaxDepth) return Fault("an expression of less depth");
      RESHARD_ASSIGN(NodePtr input, Level(level));
      --depth_;
      return std::make_shared<Node>(Node{.op = "not", .inputs = {input}});
    }
    RESHARD_ASSIGN(NodePtr left, Level(level + 1));
    for (bool more = true; more;) {
      more = false;
      for (std::string_view op : kLevels[level]) {
        if (!Take(op)) continue;
        const size_t right_at = at_;
        RESHARD_ASSIGN(NodePtr right, Level(level + 1));
        if (op == "in" && right->op != "name") {
          at_ = right_at;
          return Fault("the name of a list");
        }
        left = std::make_shared<Node>(Node{.op = std::string(op), .inputs = {left, right}});
        more = true;
        break;
      }
    }
    return left;
  }

  Result<NodePtr> Unary() {
    if (++depth_ > kMaxDepth) return Fault("an expression of less depth");
    auto node = Primary();
    --depth_;
    return node;
  }

  Result<NodePtr> Primary() {
    if (Take("(")) {
      RESHARD_ASSIGN(NodePtr node, Level(0));
      if (!Take(")")) return Fault("')'");
      return node;
    }
    SkipSpace();
    size_t end = at_;
    while (end < text_.size() && IsWordChar(text_[end])) ++end;
    if (end == at_) return Fault("a number, a name or '('");
    const std::string_view word = text_.substr(at_, end - at_);
    Node node{.op = "name", .name = std::string(word)};
    const auto [stop, code] = std::from_chars(word.data(), word.data() + word.size(), node.number);
    if (code == std::errc() && stop == word.data() + word.size()) node.op = "number";
    const bool is_word = std::ranges::find(kWords, word) != kWords.end();
    if (is_word || (node.op == "name" && word[0] >= '0' && word[0] <= '9'))
      return Fault("a number, a name or '('");
    at_ = end;
    return std::make_shared<Node>(std::move(node));
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

Result<Expression> Expression::Parse(std::string_view text) {
  if (text.size() > kMaxText)
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .found = fmt::format("an expression of {} bytes", text.size()),
                                 .expected = fmt::format("at most {}", kMaxText)});
  RESHARD_ASSIGN(NodePtr root, Parser(text).Whole());
  Expression expression;
  expression.text_ = text;
  expression.root_ = std::move(root);
  return expression;
}

std::vector<std::string> Expression::Names() const {
  std::vector<std::string> names;
  AddNames(*root_, &names);
  return names;
}

void Expression::AddNames(const Node& node, std::vector<std::string>* names) {
  if (node.op == "name") names->push_back(node.name);
  if (node.op == "in") return AddNames(*node.inputs[0], names);
  for (const NodePtr& input : node.inputs) AddNames(*input, names);
}

Result<std::optional<int64_t>> Expression::Evaluate(const LookUp& look_up,
                                                    const LookUpList& look_up_list) const {
  auto value = Evaluate(*root_, look_up, look_up_list);
  if (!value) value.error().found = fmt::format("'{}': {}", text_, value.error().found);
  return value;
}

Result<std::optional<int64_t>> Expression::Evaluate(const Node& node, const LookUp& look_up,
                                                    const LookUpList& look_up_list) {
  if (node.op == "number") return node.number;
  if (node.op == "name") return look_up(node.name);
  RESHARD_ASSIGN(const std::optional<int64_t> first,
                 Evaluate(*node.inputs[0], look_up, look_up_list));
  if (node.op == "not") return first.value_or(0) == 0;
  if (node.op == "??" && first) return first;
  if (node.op == "in") {
    const auto* list = look_up_list ? look_up_list(node.inputs[1]->name) : nullptr;
    return first && list ? std::optional<int64_t>(std::ranges::find(*list, *first) != list->end())
                         : std::nullopt;
  }
  RESHARD_ASSIGN(const std::optional<int64_t> second,
                 Evaluate(*node.inputs[1], look_up, look_up_list));
  if (node.op == "??") return second;
  if (node.op == "and") return first.value_or(0) != 0 && second.value_or(0) != 0;
  if (node.op == "or") return first.value_or(0) != 0 || second.value_or(0) != 0;
  if (!first || !second) return std::nullopt;
  const auto value = Combine(node.op, *first, *second);
  if (!value)
    return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                 .found = fmt::format("{} {} {}", *first, node.op, *second),
                                 .expected = "a whole number of 63 bits"});
  return value;
}

}  // namespace reshard
