#include "api/restored.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "checkpoints/joined_source.h"
#include "recipe/bound_recipe.h"
#include "reshard/convert.h"

namespace reshard {
namespace {

bool IsOneOf(const std::vector<Pattern>& names, const std::string& name) {
  return std::ranges::any_of(names,
                             [&](const Pattern& pattern) { return pattern.Match(name).has_value(); });
}

}  // namespace

Result<std::vector<Pattern>> RestoredNames(const Recipe& recipe, const ModelConfig& config) {
  RESHARD_ASSIGN(const BoundRecipe bound, BoundRecipe::Bind(recipe, config, {}));
  std::vector<Pattern> names;
  for (const Rule* rule : bound.rules())
    if (rule->restore) std::ranges::copy(rule->hub, std::back_inserter(names));
  return names;
}

Result<std::unique_ptr<Source>> AddRestored(std::unique_ptr<Source> source,
                                            const std::vector<Pattern>& names,
                                            const std::string& directory) {
  if (names.empty()) return source;
  RESHARD_ASSIGN(auto other, OpenSource(directory, "hf"));
  const auto wanted = [&](const std::string& name) { return IsOneOf(names, name); };
  if (std::ranges::none_of(other->catalog().tensors(), wanted, &Tensor::name)) return source;
  RESHARD_ASSIGN(JoinedSources joined, JoinSources(std::move(source), std::move(other), wanted));
  return std::move(joined.source);
}

std::vector<NamedView> TakeRestored(const std::vector<Pattern>& names, Mapping* mapping) {
  const auto rest = std::ranges::stable_partition(
      mapping->tensors, [&](const NamedView& tensor) { return !IsOneOf(names, tensor.name); });
  std::vector<NamedView> restored(std::make_move_iterator(rest.begin()),
                                  std::make_move_iterator(rest.end()));
  mapping->tensors.erase(rest.begin(), rest.end());
  return restored;
}

Result<> CheckRestored(const std::vector<Pattern>& names, const std::string& directory) {
  if (names.empty() || !directory.empty()) return {};
  std::vector<std::string> texts;
  for (const Pattern& name : names) texts.push_back(fmt::format("'{}'", name.text()));
  return std::unexpected(Error{
      .kind = ErrorKind::kMapping,
      .found = "this model has more tensors than the ranks hold: these train one part of it",
      .expected = fmt::format("a directory to take {} from", fmt::join(texts, " and ")),
      .help = "give the directory of the published model by --like; --only with an expression for "
              "names writes the other tensors alone"});
}

}  // namespace reshard
