#ifndef RESHARD_RECIPE_OPTIMIZER_STATE_H_
#define RESHARD_RECIPE_OPTIMIZER_STATE_H_

#include <string_view>

namespace reshard {

/// Whether a tensor of this name is an optimizer's, by the words that torch.optim and those like it
/// use in their state dicts: "optimizer.state.model.norm.weight.exp_avg", "state.0.step".
bool NamesOptimizerState(std::string_view name);

}  // namespace reshard

#endif  // RESHARD_RECIPE_OPTIMIZER_STATE_H_
