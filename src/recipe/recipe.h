#ifndef RESHARD_RECIPE_RECIPE_H_
#define RESHARD_RECIPE_RECIPE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recipe/mapping.h"
#include "recipe/pattern.h"
#include "recipe/regex.h"
#include "reshard/catalog.h"
#include "reshard/error.h"

namespace reshard {

/// The two-way map between a flavor's names ("here") and the hub's, as data.
class Recipe {
 public:
  /// Reads a recipe and checks it whole: every field known, both sides of a rule with the same
  /// captures, no name that two rules could claim. Errors are of kind kUsage and name `origin` and
  /// the line. docs/recipes.md describes the language.
  static Result<Recipe> Parse(std::string_view toml, const std::string& origin);

  const std::string& name() const { return name_; }
  const std::string& description() const { return description_; }
  const std::string& text() const { return text_; }
  const std::vector<std::string>& before() const { return before_; }

  /// The target's tensors, in hub names, as views of the catalog's. A tensor that an `ignore`
  /// matches is dropped. Errors are of kind kMapping: a name without a rule (naming the nearest),
  /// two names that become one.
  Result<Mapping> Apply(const Catalog& catalog, const std::vector<Regex>& ignore) const;

  /// Why this recipe fits the names of the catalog: the evidence in a phrase; nothing where it does
  /// not, or where the recipe does not say how it is told.
  std::optional<std::string> Detect(const Catalog& catalog) const;

 private:
  struct Rule {
    Pattern here;
    std::optional<Pattern> hub;  // nothing: the name is dropped
    bool otherwise = false;
    std::string note;            // the warning of a rule, the reason of a drop
  };
  const Rule* FindRule(std::string_view name, Captures* captures) const;
  std::string NearestRule(std::string_view name) const;

  std::string name_;
  std::string description_;
  std::string text_;
  std::vector<std::vector<Pattern>> detect_;
  std::vector<std::string> before_;
  std::vector<Rule> rules_;
};

/// The recipes that come with the program, sorted by name.
const std::vector<Recipe>& BuiltInRecipes();

/// A recipe and how it came to be chosen.
struct ChosenRecipe {
  Recipe recipe;
  std::string why;
};

/// The recipe called `name`: one of the built-in ones, a file (anything with a '/' or ".toml"), or,
/// for "auto", the one whose `detect` fits the catalog's names; `identity` where none does.
Result<ChosenRecipe> ChooseRecipe(const std::string& name, const Catalog& catalog);

/// Reads a recipe by name or from a file.
Result<Recipe> LoadRecipe(const std::string& name);

}  // namespace reshard

#endif  // RESHARD_RECIPE_RECIPE_H_
