#ifndef RESHARD_API_UNREADABLE_H_
#define RESHARD_API_UNREADABLE_H_

#include <vector>

#include "recipe/bound_recipe.h"
#include "recipe/mapping.h"
#include "recipe/regex.h"
#include "reshard/source.h"

namespace reshard {

/// Drops, by name, the source's tensors that are stored in a form which is not read: those that an
/// `ignore` finds, or that a drop rule of the recipe takes (by its own names, or with `hub` by the
/// hub's). Any other is an error of kind kSource that names it: a model without it is not the model.
Result<> DropUnreadable(const Source& source, const std::vector<Regex>& ignore,
                        const BoundRecipe& recipe, bool hub, Mapping* mapping);

}  // namespace reshard

#endif  // RESHARD_API_UNREADABLE_H_
