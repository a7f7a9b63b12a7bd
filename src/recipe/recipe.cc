#include "recipe/recipe.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/try.h"

namespace reshard {
namespace {

// How alike two names are: characters that agree from the front and from the back.
size_t Likeness(std::string_view a, std::string_view b) {
  const size_t most = std::min(a.size(), b.size());
  size_t front = 0, back = 0;
  while (front < most && a[front] == b[front]) ++front;
  while (back < most - front && a[a.size() - 1 - back] == b[b.size() - 1 - back]) ++back;
  return front + back;
}

void ReplaceAll(std::string* text, std::string_view what, std::string_view with) {
  for (size_t at = text->find(what); at != std::string::npos; at = text->find(what, at)) {
    text->replace(at, what.size(), with);
    at += with.size();
  }
}

}  // namespace

const Recipe::Rule* Recipe::FindRule(std::string_view name, Captures* captures) const {
  for (const bool otherwise : {false, true})
    for (const Rule& rule : rules_) {
      if (rule.otherwise != otherwise) continue;
      if (auto match = rule.here.Match(name)) {
        *captures = std::move(*match);
        return &rule;
      }
    }
  return nullptr;
}

std::string Recipe::NearestRule(std::string_view name) const {
  const Rule* nearest = nullptr;
  size_t best = 0;
  for (const Rule& rule : rules_) {
    const size_t likeness = Likeness(name, rule.here.text());
    if (nearest && likeness <= best) continue;
    nearest = &rule;
    best = likeness;
  }
  return nearest ? nearest->here.text() : std::string();
}

Result<Mapping> Recipe::Apply(const Catalog& catalog, const std::vector<Regex>& ignore) const {
  Mapping mapping;
  std::map<std::string, std::string, std::less<>> origin;  // hub name -> name here
  for (size_t i = 0; i < catalog.tensors().size(); ++i) {
    const Tensor& tensor = catalog.tensors()[i];
    const Regex* ignored = nullptr;
    for (const Regex& regex : ignore) {
      RESHARD_ASSIGN(const bool found, regex.Search(tensor.name));
      if (found) ignored = &regex;
    }
    const auto drop = [&](std::string why) {
      mapping.dropped.push_back(
          {tensor.name, static_cast<uint64_t>(tensor.byte_size()), std::move(why)});
    };
    if (ignored) {
      drop(fmt::format("--ignore '{}'", ignored->pattern()));
      continue;
    }
    Captures captures;
    const Rule* rule = FindRule(tensor.name, &captures);
    if (!rule)
      return std::unexpected(Error{
          .kind = ErrorKind::kMapping,
          .tensor = tensor.name,
          .found = fmt::format("recipe '{}' has no rule for this tensor", name_),
          .expected = fmt::format("a name like its nearest rule, '{}'", NearestRule(tensor.name)),
          .help = fmt::format("choose another recipe with --recipe (reshard recipe list), or drop "
                              "the tensor with --ignore '^{}$'",
                              Regex::Escape(tensor.name))});
    if (!rule->hub) {
      drop(rule->note);
      continue;
    }
    std::string name = rule->hub->Fill(captures);
    if (const auto [at, fresh] = origin.emplace(name, tensor.name); !fresh)
      return std::unexpected(Error{
          .kind = ErrorKind::kMapping,
          .tensor = tensor.name,
          .found = fmt::format("'{}' and '{}' both become '{}'", at->second, tensor.name, name),
          .expected = "one tensor for each name",
          .help = fmt::format("choose another recipe with --recipe, or drop one of the two with "
                              "--ignore '^{}$'",
                              Regex::Escape(tensor.name))});
    if (!rule->note.empty()) {
      std::string warning = rule->note;
      ReplaceAll(&warning, "{here}", tensor.name);
      ReplaceAll(&warning, "{hub}", name);
      mapping.warnings.push_back(std::move(warning));
    }
    mapping.tensors.push_back(
        {std::move(name), View::Source(static_cast<uint32_t>(i), tensor.dtype, tensor.shape)});
  }
  std::ranges::sort(mapping.tensors, {}, &NamedView::name);
  return mapping;
}

std::optional<std::string> Recipe::Detect(const Catalog& catalog) const {
  for (const std::vector<Pattern>& patterns : detect_) {
    size_t count = 0;
    for (const Tensor& tensor : catalog.tensors()) {
      const auto captures = patterns[0].Match(tensor.name);
      if (!captures) continue;
      count += std::ranges::all_of(patterns, [&](const Pattern& pattern) {
        return catalog.Find(pattern.Fill(*captures)) != nullptr;
      });
    }
    if (count == 0) continue;
    std::string texts;
    for (const Pattern& pattern : patterns)
      texts += (texts.empty() ? "'" : " with '") + pattern.text() + "'";
    return fmt::format("{} {} like {}", count, count == 1 ? "name is" : "names are", texts);
  }
  return std::nullopt;
}

}  // namespace reshard
