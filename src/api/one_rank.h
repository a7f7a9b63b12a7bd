#ifndef RESHARD_API_ONE_RANK_H_
#define RESHARD_API_ONE_RANK_H_

#include <vector>

#include "recipe/mapping.h"
#include "reshard/request.h"
#include "reshard/source.h"

namespace reshard {

/// An error of kind kMapping where a source is one file that a rank of Megatron's has saved: shards
/// of a model, in names that are not the hub's. A recipe of the user's own may map it all the same,
/// and a DCP with `identity` keeps it as it is.
Result<> CheckIsNotOneRank(const ConvertRequest& request, const Source& source);

/// An error of kind kMapping where tensors would be written to a model as ranks' own,
/// `mp_rank_00/model/...`: the recipe that was asked for knows nothing of ranks.
Result<> CheckNamesNoRank(const std::vector<NamedView>& tensors, const std::string& recipe);

}  // namespace reshard

#endif  // RESHARD_API_ONE_RANK_H_
