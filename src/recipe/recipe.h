#ifndef RESHARD_RECIPE_RECIPE_H_
#define RESHARD_RECIPE_RECIPE_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recipe/rule.h"
#include "reshard/catalog.h"
#include "reshard/error.h"

namespace reshard {

/// The two-way map between a flavor's tensors ("here") and the hub's, as data: what a recipe file
/// says. Immutable. BoundRecipe applies it to a model.
class Recipe {
 public:
  /// Gives the text of a part that a recipe includes, by its name.
  using PartText = std::function<Result<std::string>(const std::string& name)>;

  /// Reads a recipe and checks it whole: every field known, every map a bijection, both sides of a
  /// rule with the same captures, no name that two rules could claim, rules that agree on how the
  /// model is dealt out. Errors are of kind kUsage and name `origin` and the line. docs/recipes.md
  /// describes the language.
  static Result<Recipe> Parse(std::string_view toml, const std::string& origin,
                              const PartText& part_text = {});

  const std::string& name() const { return name_; }
  /// The name up to its first '/': recipes of one flavor differ in the models they are for.
  std::string_view flavor() const;
  const std::string& description() const { return description_; }
  /// The text of the recipe and of all that it includes.
  const std::string& text() const { return text_; }
  const std::vector<std::string>& before() const { return before_; }
  /// Whether no hub has names like those that it is told by.
  bool foreign() const { return foreign_; }
  /// Names, on either side, of tensors whose type a request to cast all of them leaves as it is.
  const std::vector<Pattern>& keep() const { return keep_; }
  /// The classes of models (config.json: architectures) that it is for; empty for any.
  const std::vector<std::string>& models() const { return models_; }

  const std::vector<Rule>& rules() const { return rules_; }
  /// Whether it says which ranks hold what.
  bool deals_out() const;
  const std::vector<Scope>& scopes() const { return scopes_; }
  /// The names of the forms that its hub tensors may have, each once, the first ones first.
  std::vector<std::string> form_names() const;
  const std::vector<Refusal>& refusals() const { return refusals_; }

  /// Another spelling of the names of one side: what matches `other` is read as `name`.
  struct Alias {
    Pattern other;
    Pattern name;
    bool hub = true;  ///< which side's
  };
  const std::vector<Alias>& aliases() const { return aliases_; }

  /// Why this recipe fits the names of the catalog: the evidence in a phrase; nothing where it does
  /// not, or where the recipe does not say how it is told.
  std::optional<std::string> Detect(const Catalog& catalog) const;

 private:
  class Reader;
  class Checks;

  std::string name_;
  std::string description_;
  std::string text_;
  std::vector<std::vector<Pattern>> detect_;
  std::vector<std::string> before_;
  bool foreign_ = false;
  std::vector<Pattern> keep_;
  std::vector<std::string> models_;
  std::vector<Alias> aliases_;
  std::vector<Scope> scopes_;
  std::vector<Rule> rules_;
  std::vector<Refusal> refusals_;
};

/// The recipe of the hub's own names: each tensor keeps its name.
const Recipe& HubNames();

/// The recipes that come with the program, sorted by name.
const std::vector<Recipe>& BuiltInRecipes();

/// A recipe and how it came to be chosen.
struct ChosenRecipe {
  Recipe recipe;
  std::string why;
  bool fallback = false;  ///< no recipe knows the names, so they are kept as they are
};

/// The recipe called `name`: a built-in one by its whole name, a built-in flavor's for one of
/// `architectures`, a file (one that exists, or ends in ".toml"), or, for "auto", the one whose
/// `detect` fits the catalog's names; `identity` where none does.
Result<ChosenRecipe> ChooseRecipe(const std::string& name, const Catalog& catalog,
                                  const std::vector<std::string>& architectures);

/// Reads a recipe by its whole name or from a file.
Result<Recipe> LoadRecipe(const std::string& name);

}  // namespace reshard

#endif  // RESHARD_RECIPE_RECIPE_H_
