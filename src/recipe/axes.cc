#include "recipe/axes.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/checked_math.h"
#include "base/try.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

Error AxesError(std::string_view text, std::string found) {
  return Error{.kind = ErrorKind::kUsage,
               .found = fmt::format("axes '{}': {}", text, found),
               .expected = "axes like 'f h', '(g [r 1 1] d) *' or 'e h i'"};
}

bool IsWord(std::string_view word) {
  return !word.empty() && std::ranges::all_of(word, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

// Splits into words and the marks ( ) [ ] *.
std::vector<std::string_view> Tokens(std::string_view text) {
  std::vector<std::string_view> tokens;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of(" ()[]*", at), text.size());
    if (end > at) tokens.push_back(text.substr(at, end - at));
    if (end < text.size() && text[end] != ' ') tokens.push_back(text.substr(end, 1));
    at = end + 1;
  }
  return tokens;
}

Result<Axis> ParseWord(std::string_view text, std::string_view word) {
  if (!IsWord(word)) return std::unexpected(AxesError(text, fmt::format("'{}'", word)));
  Axis axis;
  const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), axis.number);
  if (code == std::errc() && end == word.data() + word.size()) {
    if (axis.number > 0) return axis;
    return std::unexpected(AxesError(text, "a size of 0"));
  }
  if (word[0] >= '0' && word[0] <= '9')
    return std::unexpected(AxesError(text, fmt::format("the size '{}'", word)));
  axis.name = word;
  axis.number = 0;
  return axis;
}

}  // namespace

std::optional<int64_t> SizeOf(const Axis& axis, const Sizes& sizes) {
  if (!axis.parts.empty()) {
    int64_t sum = 0;
    for (const Axis& part : axis.parts) {
      const auto size = SizeOf(part, sizes);
      const auto next = size ? CheckedAdd(sum, *size) : std::nullopt;
      if (!next) return std::nullopt;
      sum = *next;
    }
    return sum;
  }
  if (axis.name.empty()) return axis.number;
  const auto at = sizes.find(axis.name);
  if (at == sizes.end()) return std::nullopt;
  return at->second;
}

Result<Axes> Axes::Parse(std::string_view text) {
  Axes axes;
  axes.text_ = text;
  bool in_dim = false, in_parts = false;
  for (std::string_view token : Tokens(text)) {
    if (axes.rest_) return std::unexpected(AxesError(text, "something behind '*'"));
    if (token == "(" && !in_dim) {
      axes.dims_.emplace_back();
      in_dim = true;
    } else if (token == ")" && in_dim && !in_parts) {
      if (axes.dims_.back().empty()) return std::unexpected(AxesError(text, "nothing in ( )"));
      in_dim = false;
    } else if (token == "[" && !in_parts) {
      if (!in_dim) axes.dims_.emplace_back();
      axes.dims_.back().push_back({});
      in_parts = true;
    } else if (token == "]" && in_parts) {
      if (axes.dims_.back().back().parts.size() < 2)
        return std::unexpected(AxesError(text, "fewer than two parts in [ ]"));
      in_parts = false;
    } else if (token == "*" && !in_dim && !in_parts) {
      axes.rest_ = true;
    } else {
      RESHARD_ASSIGN(Axis axis, ParseWord(text, token));
      if (in_parts) {
        axes.dims_.back().back().parts.push_back(std::move(axis));
      } else {
        if (!in_dim) axes.dims_.emplace_back();
        axes.dims_.back().push_back(std::move(axis));
      }
    }
  }
  if (in_dim || in_parts) return std::unexpected(AxesError(text, "a bracket is not closed"));
  std::vector<std::string> names;
  size_t with_parts = 0;
  for (const Axis& axis : axes.Flat()) {
    with_parts += !axis.parts.empty();
    if (!axis.name.empty()) names.push_back(axis.name);
  }
  std::ranges::sort(names);
  if (std::ranges::adjacent_find(names) != names.end())
    return std::unexpected(AxesError(text, "an axis twice"));
  if (with_parts > 1) return std::unexpected(AxesError(text, "two axes of parts"));
  return axes;
}

std::vector<Axis> Axes::Flat() const {
  std::vector<Axis> flat;
  for (const auto& dim : dims_) flat.insert(flat.end(), dim.begin(), dim.end());
  return flat;
}

bool Axes::Has(std::string_view name) const {
  const auto flat = Flat();
  return std::ranges::find(flat, name, &Axis::name) != flat.end();
}

bool Axes::Leads(std::string_view name) const {
  return !dims_.empty() && dims_[0].size() == 1 && dims_[0][0].name == name;
}

Result<> Axes::Solve(const Shape& shape, Sizes* sizes) const {
  const auto fault = [&](std::string found, std::string expected) {
    return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                 .found = std::move(found),
                                 .expected = std::move(expected),
                                 .help = "the recipe or the config.json does not fit this tensor"});
  };
  if (shape.size() < dims_.size() || (!rest_ && shape.size() > dims_.size()))
    return fault(fmt::format("the shape {}", ShapeText(shape)),
                 fmt::format("dimensions as in '{}'", text_));
  for (size_t dim = 0; dim < dims_.size(); ++dim) {
    int64_t product = 1;
    const Axis* open = nullptr;
    for (const Axis& axis : dims_[dim]) {
      const auto size = SizeOf(axis, *sizes);
      if (!size && open)
        return fault(fmt::format("dimension {} of {}", dim, ShapeText(shape)),
                     fmt::format("to know '{}' or '{}' of '{}' from the model's config.json",
                                 open->name.empty() ? "[]" : open->name,
                                 axis.name.empty() ? "[]" : axis.name, text_));
      if (!size) open = &axis;
      const auto next = CheckedMul(product, size.value_or(1));
      product = next.value_or(0);
    }
    const bool divides = product > 0 && shape[dim] % product == 0;
    if (!divides || (!open && shape[dim] != product))
      return fault(fmt::format("dimension {} of {} is {}", dim, ShapeText(shape), shape[dim]),
                   fmt::format("{}{} for '{}'", open ? "a multiple of " : "", product, text_));
    if (!open) continue;
    int64_t size = shape[dim] / product;
    if (open->parts.empty()) {
      (*sizes)[open->name] = size;
      continue;
    }
    // One unknown among parts: what the others leave.
    const std::string* unknown = nullptr;
    int64_t times = 0;
    for (const Axis& part : open->parts) {
      if (const auto known = SizeOf(part, *sizes))
        size = *known < 0 || *known > size ? 0 : size - *known;
      else if (!unknown || *unknown == part.name)
        unknown = &part.name, ++times;
      else
        return fault(fmt::format("dimension {} of {}", dim, ShapeText(shape)),
                     fmt::format("to know '{}' or '{}' of '{}' from the model's config.json",
                                 *unknown, part.name, text_));
    }
    if (size <= 0 || !unknown || size % times != 0)
      return fault(fmt::format("dimension {} of {} is {}", dim, ShapeText(shape), shape[dim]),
                   fmt::format("one that '{}' can be", text_));
    (*sizes)[*unknown] = size / times;
  }
  return {};
}

Result<View> Axes::Open(const View& view, const Sizes& sizes) const {
  Shape shape;
  for (const Axis& axis : Flat()) shape.push_back(SizeOf(axis, sizes).value_or(0));
  for (size_t dim = dims_.size(); dim < view.shape().size(); ++dim)
    shape.push_back(view.shape()[dim]);
  return View::Reshape(view, std::move(shape));
}

Result<View> Axes::Close(const View& open) const {
  Shape shape;
  size_t at = 0;
  for (const auto& dim : dims_) {
    int64_t size = 1;
    for (size_t i = 0; i < dim.size(); ++i) size *= open.shape()[at++];
    shape.push_back(size);
  }
  for (; at < open.shape().size(); ++at) shape.push_back(open.shape()[at]);
  return View::Reshape(open, std::move(shape));
}

Result<View> Axes::Cut(const View& view, const Sizes& sizes, std::string_view name, int64_t start,
                       int64_t length) const {
  const auto flat = Flat();
  const auto dim = std::ranges::find(flat, name, &Axis::name) - flat.begin();
  RESHARD_ASSIGN(const View open, Open(view, sizes));
  RESHARD_ASSIGN(const View part, View::Slice(open, static_cast<size_t>(dim), start, length));
  return Close(part);
}

Result<View> Axes::Join(const std::vector<View>& pieces, Sizes sizes, std::string_view name) const {
  const auto flat = Flat();
  const auto dim = std::ranges::find(flat, name, &Axis::name) - flat.begin();
  const auto whole = sizes.find(name);
  const std::optional<int64_t> total =
      whole == sizes.end() ? std::nullopt : std::optional(whole->second);
  std::vector<View> open;
  for (const View& piece : pieces) {
    Sizes own = sizes;
    // With pieces of one shape each has an equal share, which may be needed to solve the others.
    const bool even = std::ranges::all_of(
        pieces, [&](const View& other) { return other.shape() == piece.shape(); });
    if (total && even && *total % std::ssize(pieces) == 0)
      own.insert_or_assign(std::string(name), *total / std::ssize(pieces));
    else
      own.erase(std::string(name));
    RESHARD_TRY(Solve(piece.shape(), &own));
    RESHARD_ASSIGN(View view, Open(piece, own));
    open.push_back(std::move(view));
  }
  RESHARD_ASSIGN(const View joined, View::Concat(std::move(open), static_cast<size_t>(dim)));
  return Close(joined);
}

}  // namespace reshard
