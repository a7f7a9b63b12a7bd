#include "recipe/recipe.h"

#include <algorithm>

#include <fmt/format.h>

namespace reshard {

std::string_view Recipe::flavor() const {
  return std::string_view(name_).substr(0, name_.find('/'));
}

bool Recipe::deals_out() const {
  return std::ranges::any_of(rules_, [](const Rule& rule) { return !rule.stage.part.empty(); });
}

std::vector<std::string> Recipe::form_names() const {
  std::vector<std::string> names;
  for (const Rule& rule : rules_)
    for (const Form& form : rule.forms)
      if (std::ranges::find(names, form.name) == names.end()) names.push_back(form.name);
  return names;
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
