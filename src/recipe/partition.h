#ifndef RESHARD_RECIPE_PARTITION_H_
#define RESHARD_RECIPE_PARTITION_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "recipe/bound_recipe.h"
#include "recipe/layout.h"

namespace reshard {

/// A tensor as one rank has it: a View::Repeat where another rank before it has the same.
struct RankTensor {
  int64_t tp = 0;
  int64_t pp = 0;
  int64_t ep = 0;
  int64_t chunk = 0;  ///< of the virtual pipeline
  std::string name;   ///< layers and experts counted from the rank's own first
  View view;
};

/// How many layers each part of the model has: one more than the highest number in the names.
std::map<std::string, int64_t> CountLayers(const BoundRecipe& recipe,
                                           const std::vector<NamedView>& tensors);

/// Deals whole tensors, in the recipe's own names, out to ranks. Errors are of kind kMapping, with
/// the numbers: an axis that does not divide, a layer that no stage has.
Result<std::vector<RankTensor>> Partition(const BoundRecipe& recipe, const Layout& layout,
                                          const std::vector<NamedView>& tensors);

/// The inverse: puts the ranks' tensors together. Replicas become checks of `mapping`. Errors are
/// of kind kMapping: a shard that is missing, a name without a rule.
Result<> Assemble(const BoundRecipe& recipe, const Layout& layout,
                  const std::vector<RankTensor>& tensors, Mapping* mapping);

}  // namespace reshard

#endif  // RESHARD_RECIPE_PARTITION_H_
