#include "recipe/pattern.h"

#include <algorithm>
#include <array>
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
      for (char c : pattern.pieces_.back().text)
        pattern.steps_.push_back({Piece::Kind::kLiteral, c, false});
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
    pattern.steps_.push_back({pattern.pieces_.back().kind, 0, true});
    at = close + 1;
  }
  return pattern;
}

// Walks `name` from `at` through pieces, none of them a `*`, taking as little as it can: where the
// walk ends, if it can be walked. The pattern's last piece must end with the name.
//
// Nothing that was taken needs to be given back. A capture ends where the literal behind it stands
// first; were that literal to stand once more before the next dot, the next capture could take all
// up to there as well: "a_b_c" as {x}_{y} is "a" and "b_c". So this is linear.
std::optional<size_t> Pattern::Walk(std::string_view name, size_t at, size_t first, size_t last,
                                    Spans* spans) const {
  for (size_t i = first; i < last; ++i) {
    const Piece& piece = pieces_[i];
    if (piece.kind == Piece::Kind::kLiteral) {
      if (!name.substr(at).starts_with(piece.text)) return std::nullopt;
      at += piece.text.size();
      continue;
    }
    const size_t dot = std::min(name.find('.', at), name.size());
    const std::string_view behind = i + 1 < last ? pieces_[i + 1].text : std::string_view();
    size_t end = name.size() - behind.size();  // where it ends if these are the pattern's last pieces
    if (i + 2 < pieces_.size()) end = name.substr(0, dot + behind.size()).find(behind, at + 1);
    if (behind.size() > name.size() || end == std::string_view::npos || end <= at || end > dot)
      return std::nullopt;
    spans->emplace_back(&piece, name.substr(at, end - at));
    at = end;
  }
  if (last == pieces_.size() && at != name.size()) return std::nullopt;
  return at;
}

// The same from a `*` on: of the places where the literal behind it stands, the first from which the
// rest can be walked. A place without a dot since the last one that failed would fail likewise.
bool Pattern::WalkFromWide(std::string_view name, size_t at, size_t wide, Spans* spans) const {
  const Piece& piece = pieces_[wide];
  const size_t known = spans->size();
  const std::string_view behind =
      wide + 1 < pieces_.size() ? std::string_view(pieces_[wide + 1].text) : std::string_view();
  size_t end = at + 1;
  if (wide + 2 >= pieces_.size())
    end = name.size() < behind.size() ? 0 : std::max(end, name.size() - behind.size());
  for (end = name.find(behind, end); end != std::string_view::npos && end > at;
       end = name.find(behind, end)) {
    spans->emplace_back(&piece, name.substr(at, end - at));
    if (Walk(name, end, wide + 1, pieces_.size(), spans)) return true;
    spans->resize(known);
    const size_t dot = name.find('.', end + behind.size());
    if (dot == std::string_view::npos) return false;
    end = dot - behind.size() + 1;
  }
  return false;
}

std::optional<Captures> Pattern::Match(std::string_view name) const {
  const auto wide = static_cast<size_t>(
      std::ranges::find(pieces_, Piece::Kind::kAny, &Piece::kind) - pieces_.begin());
  Spans spans;
  const auto at = Walk(name, 0, 0, wide, &spans);
  if (!at) return std::nullopt;
  if (wide < pieces_.size() && !WalkFromWide(name, *at, wide, &spans)) return std::nullopt;
  Captures captures;
  for (const auto& [piece, span] : spans) captures.emplace(piece->text, span);
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
  // Most pairs differ in the text before the first capture already, or in that behind the last.
  const auto head = [](const Pattern& pattern) {
    return std::string_view(pattern.text_).substr(0, pattern.text_.find('{'));
  };
  const auto tail = [](const Pattern& pattern) {
    return std::string_view(pattern.text_).substr(pattern.text_.rfind('}') + 1);
  };
  const size_t front = std::min(head(a).size(), head(b).size());
  if (head(a).substr(0, front) != head(b).substr(0, front)) return false;
  const size_t back = std::min(tail(a).size(), tail(b).size());
  if (tail(a).substr(tail(a).size() - back) != tail(b).substr(tail(b).size() - back)) return false;
  // The two overlap where both chains of steps can be walked to their ends together.
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
  const std::vector<Step>&xs = a.steps_, &ys = b.steps_;
  // Two rows, without allocating for the usual pattern: recipes compare each with each other.
  const size_t width = ys.size() + 1;
  std::array<char, 256> few{};
  std::vector<char> many(2 * width > few.size() ? 2 * width : 0, false);
  char* row = many.empty() ? few.data() : many.data();
  char* next = row + width;
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
