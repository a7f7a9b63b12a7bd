#ifndef RESHARD_RECIPE_PATTERN_H_
#define RESHARD_RECIPE_PATTERN_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// What the captures of a pattern stand for in one name.
using Captures = std::map<std::string, std::string, std::less<>>;

/// A name with captures: `{layer}` stands for one or more characters without a dot, `{rest*}` for
/// one or more of any. The same captures in two patterns make a two-way map of names.
class Pattern {
 public:
  /// Errors are of kind kUsage: unbalanced braces, a capture twice, two captures side by side, more
  /// than one `*` capture (matching would be ambiguous).
  static Result<Pattern> Parse(std::string_view text);

  const std::string& text() const { return text_; }

  /// The captures, if the whole name matches. Ambiguity is resolved to the left: a capture takes as
  /// little as it can.
  std::optional<Captures> Match(std::string_view name) const;

  /// The name that these captures make. All of the pattern's captures must be there.
  std::string Fill(const Captures& captures) const;

  std::vector<std::string> CaptureNames() const;

  /// How unlike the pattern's text a name is: changes of one character, where `{layer}` takes any
  /// characters but a dot for nothing, and `{rest*}` none. Of a very long name its beginning counts.
  size_t Distance(std::string_view name) const;

  /// True where some name matches both patterns.
  static bool Overlap(const Pattern& a, const Pattern& b);

 private:
  struct Piece {
    enum class Kind { kLiteral, kComponent, kAny } kind;
    std::string text;  // the literal, or the capture's name
    bool operator==(const Piece&) const = default;
  };
  // What each capture of the pieces from `first` to `last` stands for, in their order.
  using Spans = std::vector<std::pair<const Piece*, std::string_view>>;
  std::optional<size_t> Walk(std::string_view name, size_t at, size_t first, size_t last,
                             Spans* spans) const;
  bool WalkFromWide(std::string_view name, size_t at, size_t wide, Spans* spans) const;

  // The pattern as a chain of steps, one character each; one that repeats may also stay.
  struct Step {
    Piece::Kind kind;
    char character;
    bool repeats;
  };

  std::string text_;
  std::vector<Piece> pieces_;
  std::vector<Step> steps_;
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_PATTERN_H_
