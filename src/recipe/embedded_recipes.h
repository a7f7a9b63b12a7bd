#ifndef RESHARD_RECIPE_EMBEDDED_RECIPES_H_
#define RESHARD_RECIPE_EMBEDDED_RECIPES_H_

#include <span>
#include <string>
#include <string_view>

#include "reshard/error.h"

namespace reshard {

/// A file of recipes/, built into the program.
struct EmbeddedRecipe {
  std::string_view name;  ///< of the file, relative to recipes/
  std::string_view text;
};

extern const std::span<const EmbeddedRecipe> kEmbeddedRecipes;

/// The text of a part that recipes include, by its name. Errors are of kind kUsage.
Result<std::string> EmbeddedPart(const std::string& name);

}  // namespace reshard

#endif  // RESHARD_RECIPE_EMBEDDED_RECIPES_H_
