#ifndef RESHARD_RECIPE_EXPRESSION_H_
#define RESHARD_RECIPE_EXPRESSION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// What a name in an expression stands for; nothing where it is unknown.
using LookUp = std::function<std::optional<int64_t>(std::string_view name)>;

/// The list that a name behind `in` stands for; null where it is unknown.
using LookUpList = std::function<const std::vector<int64_t>*(std::string_view name)>;

/// Arithmetic over whole numbers and names: `+ - * / %`, `== != < <= > >=`, `in` a list, `and or
/// not`, `??` (the first that is known), parentheses; they bind and count as in Python, `??` stronger
/// than a comparison. Truth is 1 or 0. An unknown name makes what it is part of unknown; `not` of it is 1, `and` and
/// `or` take it for 0.
class Expression {
 public:
  /// Errors are of kind kUsage and say where the fault is.
  static Result<Expression> Parse(std::string_view text);

  /// Division must be exact and nothing may overflow: errors of kind kMapping.
  Result<std::optional<int64_t>> Evaluate(const LookUp& look_up,
                                          const LookUpList& look_up_list = {}) const;

  const std::string& text() const { return text_; }

  /// The names of numbers in it, in the order of the text.
  std::vector<std::string> Names() const;

 private:
  class Parser;
  struct Node;
  using NodePtr = std::shared_ptr<const Node>;
  static Result<std::optional<int64_t>> Evaluate(const Node& node, const LookUp& look_up,
                                                 const LookUpList& look_up_list);
  static void AddNames(const Node& node, std::vector<std::string>* names);

  std::string text_;
  NodePtr root_;
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_EXPRESSION_H_
