#include <algorithm>

#include "base/try.h"
#include "recipe/recipe.h"
#include "recipe/regex.h"
#include "reshard/convert.h"

namespace reshard {

std::vector<RecipeInfo> ListRecipes() {
  std::vector<RecipeInfo> list;
  for (const Recipe& recipe : BuiltInRecipes())
    list.push_back({recipe.name(), recipe.description()});
  return list;
}

Result<std::string> RecipeText(const std::string& name) {
  RESHARD_ASSIGN(const Recipe recipe, LoadRecipe(name));
  return recipe.text();
}

Result<std::vector<const Tensor*>> SelectTensors(const Catalog& catalog,
                                                 const std::string& expression) {
  RESHARD_ASSIGN(const Regex regex, Regex::Compile(expression));
  std::vector<const Tensor*> tensors;
  for (const Tensor& tensor : catalog.tensors()) {
    RESHARD_ASSIGN(const bool found, regex.Search(tensor.name));
    if (found) tensors.push_back(&tensor);
  }
  return tensors;
}

std::string RecipeFor(std::string_view flavor, const std::vector<std::string>& architectures) {
  for (const Recipe& recipe : BuiltInRecipes())
    if (recipe.flavor() == flavor &&
        std::ranges::find_first_of(recipe.models(), architectures) != recipe.models().end())
      return recipe.name();
  return "";
}

std::string_view Version() { return RESHARD_VERSION; }

}  // namespace reshard
