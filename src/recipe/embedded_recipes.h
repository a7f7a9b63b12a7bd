#ifndef RESHARD_RECIPE_EMBEDDED_RECIPES_H_
#define RESHARD_RECIPE_EMBEDDED_RECIPES_H_

#include <span>
#include <string_view>

namespace reshard {

/// A file of recipes/, built into the program.
struct EmbeddedRecipe {
  std::string_view name;  ///< of the file
  std::string_view text;
};

extern const std::span<const EmbeddedRecipe> kEmbeddedRecipes;

}  // namespace reshard

#endif  // RESHARD_RECIPE_EMBEDDED_RECIPES_H_
