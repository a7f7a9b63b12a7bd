#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "recipe/embedded_recipes.h"
#include "recipe/recipe.h"

namespace reshard {
namespace {

constexpr size_t kMaxRecipeBytes = size_t{16} << 20;

std::vector<Recipe> ParseBuiltIns() {
  std::vector<Recipe> recipes;
  for (const EmbeddedRecipe& embedded : kEmbeddedRecipes) {
    // recipe_test checks that each of them parses.
    if (auto recipe = Recipe::Parse(embedded.text, std::string(embedded.name)))
      recipes.push_back(std::move(*recipe));
  }
  std::ranges::sort(recipes, {}, &Recipe::name);
  return recipes;
}

Result<Recipe> ReadRecipeFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || text.view().size() > kMaxRecipeBytes)
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .file = path,
                                 .found = "this recipe cannot be read",
                                 .expected = "a TOML file",
                                 .help = "reshard recipe list shows the ones that are built in"});
  return Recipe::Parse(text.view(), path);
}

}  // namespace

const std::vector<Recipe>& BuiltInRecipes() {
  static const std::vector<Recipe> recipes = ParseBuiltIns();
  return recipes;
}

Result<Recipe> LoadRecipe(const std::string& name) {
  if (name.contains('/') || name.ends_with(".toml")) return ReadRecipeFile(name);
  std::vector<std::string> names;
  for (const Recipe& recipe : BuiltInRecipes()) {
    if (recipe.name() == name) return recipe;
    names.push_back(recipe.name());
  }
  return std::unexpected(
      Error{.kind = ErrorKind::kUsage,
            .found = fmt::format("there is no recipe called '{}'", name),
            .expected = fmt::format("auto, {}, or a file", fmt::join(names, ", ")),
            .help = "reshard recipe list says what each of them is for"});
}

Result<ChosenRecipe> ChooseRecipe(const std::string& name, const Catalog& catalog) {
  if (name != "auto") {
    RESHARD_ASSIGN(Recipe recipe, LoadRecipe(name));
    return ChosenRecipe{std::move(recipe), "as asked"};
  }
  struct Candidate {
    const Recipe* recipe;
    std::string why;
  };
  std::vector<Candidate> fits;
  for (const Recipe& recipe : BuiltInRecipes())
    if (auto why = recipe.Detect(catalog)) fits.push_back({&recipe, std::move(*why)});
  for (const Candidate& candidate : fits) {
    const bool first = std::ranges::all_of(fits, [&](const Candidate& other) {
      return other.recipe == candidate.recipe ||
             std::ranges::find(candidate.recipe->before(), other.recipe->name()) !=
                 candidate.recipe->before().end();
    });
    if (first) return ChosenRecipe{*candidate.recipe, candidate.why};
  }
  if (!fits.empty()) {
    std::vector<std::string> names;
    for (const Candidate& candidate : fits)
      names.push_back(fmt::format("{} ({})", candidate.recipe->name(), candidate.why));
    return std::unexpected(Error{
        .kind = ErrorKind::kMapping,
        .found = fmt::format("several recipes fit the names: {}", fmt::join(names, "; ")),
        .expected = "one",
        .help = "say which with --recipe"});
  }
  RESHARD_ASSIGN(Recipe identity, LoadRecipe("identity"));
  return ChosenRecipe{std::move(identity), "no other recipe knows these names"};
}

}  // namespace reshard
