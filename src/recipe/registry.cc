#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "io/directory.h"
#include "recipe/embedded_recipes.h"
#include "recipe/recipe.h"
#include "recipe/toml_fields.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

std::vector<Recipe> ParseBuiltIns() {
  std::vector<Recipe> recipes;
  for (const EmbeddedRecipe& embedded : kEmbeddedRecipes) {
    // recipe_test checks that each of them parses.
    if (embedded.name.starts_with("parts/")) continue;
    if (auto recipe = Recipe::Parse(embedded.text, std::string(embedded.name), EmbeddedPart))
      recipes.push_back(std::move(*recipe));
  }
  std::ranges::sort(recipes, {}, &Recipe::name);
  return recipes;
}

Result<std::string> ReadText(const fs::path& path) {
  auto text = ReadTomlText(path.string(), "recipe");
  if (!text && text.error().help.empty())
    text.error().help = "reshard recipe list shows the ones that are built in";
  return text;
}

Result<Recipe> ReadRecipeFile(const std::string& path) {
  RESHARD_ASSIGN(const std::string text, ReadText(path));
  return Recipe::Parse(text, path, [&](const std::string& name) -> Result<std::string> {
    const fs::path beside = fs::path(path).parent_path() / (name + ".toml");
    RESHARD_ASSIGN(const PathKind kind, KindAt(beside, ErrorKind::kUsage));
    return kind == PathKind::kNothing ? EmbeddedPart(name) : ReadText(beside);
  });
}

Error NoSuchRecipe(const std::string& name) {
  std::vector<std::string> names;
  for (const Recipe& recipe : BuiltInRecipes())
    if (std::ranges::find(names, recipe.flavor()) == names.end())
      names.emplace_back(recipe.flavor());
  return Error{.kind = ErrorKind::kUsage,
               .found = fmt::format("there is no recipe called '{}'", name),
               .expected = fmt::format("auto, {}, or a file", fmt::join(names, ", ")),
               .help = "reshard recipe list says what each of them is for"};
}

bool IsFor(const Recipe& recipe, const std::vector<std::string>& architectures) {
  return recipe.models().empty() ||
         std::ranges::find_first_of(recipe.models(), architectures) != recipe.models().end();
}

bool StandsBefore(const Recipe& recipe, const Recipe& other) {
  return std::ranges::find(recipe.before(), other.name()) != recipe.before().end();
}

// The recipe of a flavor that is for the model.
Result<ChosenRecipe> ChooseByModel(const std::string& flavor,
                                   const std::vector<std::string>& architectures) {
  std::vector<std::string> names, models;
  for (const Recipe& recipe : BuiltInRecipes()) {
    if (recipe.flavor() != flavor) continue;
    if (IsFor(recipe, architectures))
      return ChosenRecipe{recipe, architectures.empty() ? "as asked"
                                                        : fmt::format("as asked, for {}",
                                                                      architectures[0])};
    names.push_back(recipe.name());
    models.insert(models.end(), recipe.models().begin(), recipe.models().end());
  }
  if (names.empty()) return std::unexpected(NoSuchRecipe(flavor));
  return std::unexpected(Error{
      .kind = architectures.empty() ? ErrorKind::kUsage : ErrorKind::kMapping,
      .found = architectures.empty()
                   ? "no config.json says what model this is"
                   : fmt::format("'{}' has no recipe for {}", flavor, architectures[0]),
      .expected = fmt::format("one of {}", fmt::join(models, ", ")),
      .help = fmt::format("give the model's config.json by --assets-from, or name the recipe: {}",
                          fmt::join(names, ", "))});
}

// The names are a flavor's, but which of its recipes is for the model?
Error NoRecipeForModel(const Recipe& recipe, const std::vector<std::string>& architectures,
                       const std::string& why) {
  const std::string flavor(recipe.flavor());
  auto chosen = ChooseByModel(flavor, architectures);
  return Error{.kind = ErrorKind::kMapping,
               .found = fmt::format("the names are those of '{}' ({}), but {}", flavor, why,
                                    chosen.error().found),
               .expected = chosen.error().expected,
               .help = chosen.error().help + "; --recipe identity leaves the names as they are"};
}

}  // namespace

Result<std::string> EmbeddedPart(const std::string& name) {
  for (const EmbeddedRecipe& embedded : kEmbeddedRecipes)
    if (embedded.name == fmt::format("parts/{}.toml", name)) return std::string(embedded.text);
  return std::unexpected(Error{.kind = ErrorKind::kUsage,
                               .found = fmt::format("there is no part '{}'", name),
                               .expected = "a file of recipes/parts/, or one beside the recipe"});
}

const std::vector<Recipe>& BuiltInRecipes() {
  static const std::vector<Recipe> recipes = ParseBuiltIns();
  return recipes;
}

const Recipe& HubNames() {
  static const Recipe& recipe =
      *std::ranges::find(BuiltInRecipes(), std::string_view("identity"), &Recipe::name);
  return recipe;
}

Result<Recipe> LoadRecipe(const std::string& name) {
  for (const Recipe& recipe : BuiltInRecipes())
    if (recipe.name() == name) return recipe;
  if (name.ends_with(".toml")) return ReadRecipeFile(name);
  if (name.contains('/')) {
    RESHARD_ASSIGN(const PathKind kind, KindAt(name, ErrorKind::kUsage));
    if (kind != PathKind::kNothing) return ReadRecipeFile(name);
  }
  return std::unexpected(NoSuchRecipe(name));
}

Result<ChosenRecipe> ChooseRecipe(const std::string& name, const Catalog& catalog,
                                  const std::vector<std::string>& architectures) {
  if (name != "auto") {
    auto recipe = LoadRecipe(name);
    if (recipe) return ChosenRecipe{*std::move(recipe), "as asked"};
    if (name.contains('/') || name.ends_with(".toml"))
      return std::unexpected(std::move(recipe).error());
    return ChooseByModel(name, architectures);
  }
  struct Candidate {
    const Recipe* recipe;
    std::string why;
  };
  std::vector<Candidate> fits;
  std::optional<Candidate> other_model;
  for (const Recipe& recipe : BuiltInRecipes())
    if (auto why = recipe.Detect(catalog)) {
      Candidate candidate{&recipe, std::move(*why)};
      if (IsFor(recipe, architectures))
        fits.push_back(std::move(candidate));
      else if (recipe.foreign() && !other_model)
        other_model = std::move(candidate);
    }
  // The names are no hub's, and a recipe that fits them too stands back, if there is one.
  if (other_model && std::ranges::all_of(fits, [&](const Candidate& other) {
        return StandsBefore(*other_model->recipe, *other.recipe);
      }))
    return std::unexpected(
        NoRecipeForModel(*other_model->recipe, architectures, other_model->why));
  for (const Candidate& candidate : fits) {
    const bool first = std::ranges::all_of(fits, [&](const Candidate& other) {
      return other.recipe == candidate.recipe || StandsBefore(*candidate.recipe, *other.recipe);
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
  return ChosenRecipe{HubNames(), "no other recipe knows these names", true};
}

}  // namespace reshard
