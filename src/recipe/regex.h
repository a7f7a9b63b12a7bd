#ifndef RESHARD_RECIPE_REGEX_H_
#define RESHARD_RECIPE_REGEX_H_

#include <memory>
#include <string>
#include <string_view>

#include "reshard/error.h"

namespace reshard {

/// A regular expression (PCRE2), searched for anywhere in a name like Python's `re.search`. Safe to
/// match from several threads.
class Regex {
 public:
  /// Errors are of kind kUsage and show where in the pattern the fault is.
  static Result<Regex> Compile(std::string_view pattern);

  /// An expression that finds exactly `text`.
  static std::string Escape(std::string_view text);

  const std::string& pattern() const { return pattern_; }

  /// An expression that needs too many steps on this name is an error of kind kUsage, not a no.
  Result<bool> Search(std::string_view name) const;

 private:
  Regex() = default;
  std::string pattern_;
  std::shared_ptr<void> code_;
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_REGEX_H_
