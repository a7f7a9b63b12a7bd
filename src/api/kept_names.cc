#include "api/kept_names.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "checkpoints/nearby.h"
#include "recipe/bound_recipe.h"
#include "recipe/optimizer_state.h"
#include "recipe/recipe.h"
#include "recipe/regex.h"

namespace reshard {
namespace {

constexpr std::string_view kKeepNames = "--recipe identity keeps all names as they are";

// How many parts at the start of a name may tell whose it is.
constexpr int kMaxPrefixParts = 4;

// The first parts of a name: "app.optim." of "app.optim.state.w.exp_avg".
std::string_view Prefix(std::string_view name, int parts) {
  size_t end = 0;
  for (int i = 0; i < parts; ++i) {
    const size_t dot = name.find('.', end);
    if (dot == std::string_view::npos) return name;
    end = dot + 1;
  }
  return name.substr(0, end);
}

// An expression that is found in all of `wanted` and in none of `others`; empty where no start of
// names tells them apart.
std::string ExpressionFor(const std::vector<std::string_view>& wanted,
                          const std::vector<std::string_view>& others) {
  for (int parts = 1; parts <= kMaxPrefixParts; ++parts) {
    std::set<std::string> prefixes;
    for (std::string_view name : wanted) prefixes.insert(std::string(Prefix(name, parts)));
    const bool shared = std::ranges::any_of(others, [&](std::string_view name) {
      return prefixes.contains(std::string(Prefix(name, parts)));
    });
    if (shared || prefixes.size() > 4) continue;
    std::vector<std::string> escaped;
    for (const std::string& prefix : prefixes) escaped.push_back(Regex::Escape(prefix));
    return escaped.size() == 1 ? "^" + escaped[0]
                               : fmt::format("^({})", fmt::join(escaped, "|"));
  }
  return {};
}

Result<> CheckIsNoOptimizer(const Source& source, const std::vector<NamedView>& tensors) {
  std::vector<std::string_view> states, others;
  for (const NamedView& tensor : tensors)
    (NamesOptimizerState(tensor.name) ? states : others).push_back(tensor.name);
  if (states.empty()) return {};
  Error error{.kind = ErrorKind::kMapping,
              .file = source.root(),
              .tensor = std::string(states[0]),
              .found = fmt::format("this is an optimizer's state: {} tensors are like this one",
                                   states.size()),
              .expected = "the weights of a model"};
  if (!others.empty()) {
    error.found = fmt::format("an optimizer's state stands beside the model: {} of {} tensors are "
                              "like this one",
                              states.size(), tensors.size());
    const std::string expression = ExpressionFor(states, others);
    error.help = expression.empty()
                     ? fmt::format("leave it out with --ignore; {}", kKeepNames)
                     : fmt::format("leave it out with --ignore '{}'; {}", expression, kKeepNames);
    return std::unexpected(std::move(error));
  }
  std::vector<std::string> beside =
      CheckpointsBelow(std::filesystem::path(source.root()).parent_path());
  std::erase(beside, source.root());
  error.help = beside.empty() ? fmt::format("give the model's own checkpoint; {}", kKeepNames)
                              : fmt::format("the model is likely in {}", fmt::join(beside, " or "));
  return std::unexpected(std::move(error));
}

// Whether a name is one that the hub has of the model, as one of its recipes knows it.
bool KnowsOne(const BoundRecipe& recipe, const std::vector<NamedView>& tensors) {
  return std::ranges::any_of(tensors, [&](const NamedView& tensor) {
    return recipe.FindHub(recipe.Canonical(tensor.name)).has_value();
  });
}

// Wrappers and other programs put words before all names: then no loader finds a single one.
Result<> CheckHasHubNames(const Source& source, const ModelConfig& config,
                          const std::vector<NamedView>& tensors) {
  std::string nearest;
  for (const Recipe& recipe : BuiltInRecipes()) {
    if (std::ranges::find_first_of(recipe.models(), config.architectures()) ==
        recipe.models().end())
      continue;
    const auto bound = BoundRecipe::Bind(recipe, config, {});
    if (!bound) continue;
    if (KnowsOne(*bound, tensors)) return {};
    if (nearest.empty()) nearest = bound->Nearest(tensors[0].name, true);
  }
  if (nearest.empty()) return {};
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .file = source.root(),
            .tensor = tensors[0].name,
            .found = fmt::format("none of the {} tensors has a name that {} has, and no recipe "
                                 "knows these names",
                                 tensors.size(), config.architectures()[0]),
            .expected = fmt::format("a name like '{}'", nearest),
            .help = fmt::format("give a recipe of your own with --recipe FILE (docs/recipes.md) "
                                "or the config.json of this model; {}",
                                kKeepNames)});
}

}  // namespace

Result<> CheckKeptNames(const Source& source, const ModelConfig& config,
                      const std::vector<NamedView>& tensors) {
  RESHARD_TRY(CheckIsNoOptimizer(source, tensors));
  // Files of Hugging Face have the hub's names, whoever wrote them.
  return source.kind() == "hf" ? Result<>() : CheckHasHubNames(source, config, tensors);
}

}  // namespace reshard
