#ifndef RESHARD_API_RANKS_H_
#define RESHARD_API_RANKS_H_

#include <vector>

#include "recipe/bound_recipe.h"
#include "recipe/layout.h"
#include "recipe/partition.h"
#include "reshard/layout.h"
#include "reshard/source.h"

namespace reshard {

/// The tensors of a Megatron source, rank by rank, and what its files and the request say about how
/// it is dealt out.
struct RankedSource {
  std::vector<RankTensor> tensors;
  LayoutRequest layout;  ///< sizes of all kinds; the parts' own once InferParts has told them
};

/// Sorts the tensors of a mapping by rank. What a lone suffix of the directories counts is taken
/// from `asked`, the source's hints, or from which directories hold the first stage's tensors by
/// `recipe`. Errors are of kind kMapping or kUsage, with the candidates.
Result<RankedSource> SortByRank(const Source& source, const std::vector<NamedView>& tensors,
                                const LayoutRequest& asked, const Recipe& recipe);

/// Tells from the tensors how many layers of each part stand on each stage, and the tensor parallel
/// size of each part. What stays open is an error of kind kMapping that names the candidates.
Result<> InferParts(const BoundRecipe& recipe, const LayoutRequest& asked, RankedSource* source);

/// The layers of each part that a layout request lists.
std::map<std::string, int64_t> LayersOf(const LayoutRequest& layout);

}  // namespace reshard

#endif  // RESHARD_API_RANKS_H_
