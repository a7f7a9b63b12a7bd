#ifndef RESHARD_RECIPE_BRACES_H_
#define RESHARD_RECIPE_BRACES_H_

#include <string>
#include <string_view>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// Writes out lists in braces: "{q,k,v}_proj" is "q_proj", "k_proj", "v_proj". Several lists give
/// all combinations, the first the slowest. Captures, which have no comma, stay. More than a
/// thousand names are an error of kind kUsage.
Result<std::vector<std::string>> ExpandLists(const std::string& text);

/// The choices of the first "{weight|bias}" in the text; empty where there is none.
std::vector<std::string> FirstChoice(std::string_view text);

/// The text with each "{a|b}" of these choices replaced by `choice`.
std::string Choose(std::string text, const std::vector<std::string>& choices,
                   const std::string& choice);

}  // namespace reshard

#endif  // RESHARD_RECIPE_BRACES_H_
