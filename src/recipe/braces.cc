#include "recipe/braces.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace reshard {
namespace {

constexpr size_t kMaxNames = 1000;

struct Braces {
  size_t begin = std::string_view::npos;  // of '{'
  size_t end = 0;                         // behind '}'
  std::vector<std::string> items{};
};

// The first braces from `from` on that hold `separator`.
Braces Find(std::string_view text, char separator, size_t from = 0) {
  for (size_t open = text.find('{', from); open != std::string_view::npos;
       open = text.find('{', open + 1)) {
    const size_t close = text.find('}', open);
    if (close == std::string_view::npos) return {};
    const std::string_view inside = text.substr(open + 1, close - open - 1);
    if (inside.find(separator) == std::string_view::npos || inside.contains('{')) continue;
    Braces braces{open, close + 1};
    for (size_t at = 0; at <= inside.size();) {
      const size_t end = std::min(inside.find(separator, at), inside.size());
      braces.items.emplace_back(inside.substr(at, end - at));
      at = end + 1;
    }
    return braces;
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> ExpandLists(const std::string& text) {
  std::vector<std::string> names{text};
  // One list at a time: every name has the same ones left.
  for (Braces braces = Find(text, ','); !braces.items.empty(); braces = Find(names[0], ',')) {
    if (names.size() * braces.items.size() > kMaxNames)
      return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                   .found = fmt::format("'{}' stands for too many names", text),
                                   .expected = fmt::format("at most {}", kMaxNames)});
    std::vector<std::string> longer;
    for (const std::string& name : names) {
      const Braces own = Find(name, ',');
      for (const std::string& item : own.items)
        longer.push_back(name.substr(0, own.begin) + item + name.substr(own.end));
    }
    names = std::move(longer);
  }
  return names;
}

std::vector<std::string> FirstChoice(std::string_view text) { return Find(text, '|').items; }

std::string Choose(std::string text, const std::vector<std::string>& choices,
                   const std::string& choice) {
  const std::string braces = fmt::format("{{{}}}", fmt::join(choices, "|"));
  for (size_t at = text.find(braces); at != std::string::npos; at = text.find(braces, at))
    text.replace(at, braces.size(), choice);
  return text;
}

}  // namespace reshard
