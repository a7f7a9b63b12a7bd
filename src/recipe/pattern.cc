#include "recipe/pattern.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include <fmt/format.h>

namespace reshard {
namespace {

Error PatternError(std::string_view text, std::string found) {
  return Error{.kind = ErrorKind::kUsage,
               .found = fmt::format("pattern '{}': {}", text, found),
               .expected = "text with captures like {layer} or {rest*}"};
}

bool IsIdentifier(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

}  // namespace

Result<Pattern> Pattern::Parse(std::string_view text) {
  Pattern pattern;
  pattern.text_ = text;
  std::set<std::string, std::less<>> seen;
  int wide = 0;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '}') return std::unexpected(PatternError(text, "a '}' without its '{'"));
    if (text[at] != '{') {
      const size_t end = std::min(text.find_first_of("{}", at), text.size());
      pattern.pieces_.push_back({Piece::Kind::kLiteral, std::string(text.substr(at, end - at))});
      at = end;
      continue;
    }
    const size_t close = text.find('}', at);
    if (close == std::string_view::npos)
      return std::unexpected(PatternError(text, "a '{' without its '}'"));
    std::string_view name = text.substr(at + 1, close - at - 1);
    const bool any = name.ends_with('*');
    if (any) name.remove_suffix(1);
    if (!IsIdentifier(name))
      return std::unexpected(PatternError(text, fmt::format("'{}' is no name for a capture (a to z, 0 to 9, _)", name)));
    if (!seen.insert(std::string(name)).second)
      return std::unexpected(PatternError(text, fmt::format("'{{{}}}' stands twice", name)));
    if (any && ++wide > 1)
      return std::unexpected(PatternError(text, "more than one capture with '*'"));
    if (!pattern.pieces_.empty() && pattern.pieces_.back().kind != Piece::Kind::kLiteral)
      return std::unexpected(PatternError(text, "two captures with nothing between them"));
    pattern.pieces_.push_back(
        {any ? Piece::Kind::kAny : Piece::Kind::kComponent, std::string(name)});
    at = close + 1;
  }
  return pattern;
}

// Bounded by the pattern's captures, of which there are few: names are short, and a component
// capture never looks past the next dot.
bool Pattern::MatchFrom(std::string_view name, size_t piece, Captures* captures) const {
  if (piece == pieces_.size()) return name.empty();
  const Piece& current = pieces_[piece];
  if (current.kind == Piece::Kind::kLiteral)
    return name.starts_with(current.text) &&
           MatchFrom(name.substr(current.text.size()), piece + 1, captures);
  const size_t limit = current.kind == Piece::Kind::kAny
                           ? name.size()
                           : std::min(name.find('.'), name.size());
  if (piece + 1 == pieces_.size()) {
    if (name.empty() || limit != name.size()) return false;
    (*captures)[current.text] = name;
    return true;
  }
  for (size_t length = 1; length <= limit; ++length) {
    if (!MatchFrom(name.substr(length), piece + 1, captures)) continue;
    (*captures)[current.text] = name.substr(0, length);
    return true;
  }
  return false;
}

std::optional<Captures> Pattern::Match(std::string_view name) const {
  Captures captures;
  if (!MatchFrom(name, 0, &captures)) return std::nullopt;
  return captures;
}

std::string Pattern::Fill(const Captures& captures) const {
  std::string name;
  for (const Piece& piece : pieces_)
    name += piece.kind == Piece::Kind::kLiteral ? piece.text : captures.find(piece.text)->second;
  return name;
}

std::vector<std::string> Pattern::CaptureNames() const {
  std::vector<std::string> names;
  for (const Piece& piece : pieces_)
    if (piece.kind != Piece::Kind::kLiteral) names.push_back(piece.text);
  return names;
}

size_t Pattern::Distance(std::string_view name) const {
  name = name.substr(0, 1024);
  // Levenshtein's table, a row for each character of the pattern; a capture's row may stay.
  std::vector<size_t> row(name.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  const auto step = [&](Piece::Kind kind, char literal) {
    size_t diagonal = row[0]++;
    for (size_t i = 1; i < row.size(); ++i) {
      const char c = name[i - 1];
      const bool literally = kind == Piece::Kind::kLiteral;
      const size_t taken = literally ? c != literal : kind == Piece::Kind::kAny || c == '.';
      const size_t more = literally ? 1 : taken;
      const size_t here = std::min({diagonal + taken, row[i] + 1, row[i - 1] + more});
      diagonal = std::exchange(row[i], here);
    }
  };
  for (const Piece& piece : pieces_) {
    if (piece.kind == Piece::Kind::kLiteral)
      for (char c : piece.text) step(piece.kind, c);
    else
      step(piece.kind, 0);
  }
  return row.back();
}

bool Pattern::Overlap(const Pattern& a, const Pattern& b) {
  // Most pairs differ in the text before the first capture already.
  const auto head = [](const Pattern& pattern) {
    return std::string_view(pattern.text_).substr(0, pattern.text_.find('{'));
  };
  const size_t common = std::min(head(a).size(), head(b).size());
  if (head(a).substr(0, common) != head(b).substr(0, common)) return false;
  // Each pattern as a chain of steps, one character each; a repeating step may also stay. The two
  // overlap where both chains can be walked to their ends together.
  struct Step {
    Piece::Kind kind;
    char character;
    bool repeats;
  };
  const auto steps = [](const Pattern& pattern) {
    std::vector<Step> out;
    for (const Piece& piece : pattern.pieces_) {
      if (piece.kind != Piece::Kind::kLiteral) {
        out.push_back({piece.kind, 0, true});
        continue;
      }
      for (char c : piece.text) out.push_back({piece.kind, c, false});
    }
    return out;
  };
  const auto meet = [](const Step& x, const Step& y) {
    if (x.kind == Piece::Kind::kLiteral && y.kind == Piece::Kind::kLiteral)
      return x.character == y.character;
    if (x.kind == Piece::Kind::kLiteral)
      return y.kind == Piece::Kind::kAny || x.character != '.';
    if (y.kind == Piece::Kind::kLiteral)
      return x.kind == Piece::Kind::kAny || y.character != '.';
    return true;
  };
  // Row i: how far along b, where i steps of a are walked. Nearly always that is one place.
  const std::vector<Step> xs = steps(a), ys = steps(b);
  std::vector<char> row(ys.size() + 1, false), next(ys.size() + 1, false);
  row[0] = true;
  for (size_t i = 0, first = 0, last = 0; i < xs.size(); ++i) {
    size_t next_first = ys.size() + 1, next_last = 0;
    const auto reach = [&](size_t j) {
      next[j] = true;
      next_first = std::min(next_first, j);
      next_last = std::max(next_last, j);
    };
    for (size_t j = first; j <= last; ++j) {
      if (!std::exchange(row[j], false) || j == ys.size() || !meet(xs[i], ys[j])) continue;
      reach(j + 1);
      if (ys[j].repeats) reach(j);
      if (!xs[i].repeats) continue;
      row[j + 1] = true;
      last = std::max(last, j + 1);
    }
    if (next_first > next_last) return false;
    first = next_first, last = next_last;
    std::swap(row, next);
  }
  return row[ys.size()];
}

}  // namespace reshard
