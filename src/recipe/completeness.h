#ifndef RESHARD_RECIPE_COMPLETENESS_H_
#define RESHARD_RECIPE_COMPLETENESS_H_

#include <vector>

#include "recipe/bound_recipe.h"
#include "recipe/layout.h"
#include "recipe/partition.h"

namespace reshard {

/// Proves that whole tensors, in the recipe's own names, are all that its rules say of a model
/// whose layers are dealt out. Each rule's tensors are there, unless it is `optional` or of a part
/// that the model lacks; what one layer has each layer has, or where the rule says so (`where`, or a
/// table of its `index`) those layers and no others; every expert is there; and as many layers and
/// experts as the config says. Nothing stands in for what is missing. A recipe without layers on
/// stages promises nothing. Errors are of kind kMapping and name a tensor that is missing.
Result<> CheckComplete(const BoundRecipe& recipe, const std::vector<NamedView>& tensors);

/// The same of the hub's names, whose layers are counted together by what stands before their
/// number. A recipe without stages promises it where [layers] says how many layers there are.
Result<> CheckHubComplete(const BoundRecipe& recipe, const std::vector<NamedView>& tensors);

/// Proves that every size of the layout is one that some rule cuts or deals out by: otherwise all
/// ranks along it would hold the same. Errors are of kind kMapping.
Result<> CheckUsesLayout(const BoundRecipe& recipe, const Layout& layout);

/// Proves that a tensor which the hub ties to another is on every rank of its stage exactly once:
/// as a copy, or as the other one itself. Errors are of kind kMapping.
Result<> CheckTied(const BoundRecipe& recipe, const Layout& layout,
                   const std::vector<RankTensor>& tensors);

}  // namespace reshard

#endif  // RESHARD_RECIPE_COMPLETENESS_H_
