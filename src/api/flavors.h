#ifndef RESHARD_API_FLAVORS_H_
#define RESHARD_API_FLAVORS_H_

#include <memory>
#include <optional>
#include <string>

#include "plan/planner.h"
#include "recipe/bound_recipe.h"
#include "recipe/partition.h"
#include "reshard/request.h"
#include "reshard/source.h"

namespace reshard {

/// The recipes of a conversion: how the source's names become the hub's, and those the target's.
struct Flavors {
  std::optional<ChosenRecipe> from;  ///< nothing: the source has hub names
  std::optional<ChosenRecipe> to;    ///< nothing: the target gets hub names

  std::string name() const;
  std::string why() const;
  std::string text() const;  ///< of all that decides the mapping
  bool keep_names() const;   ///< whether each tensor has one name on both sides
};

/// Decides which flavor each side has. Errors are of kind kUsage or kMapping and name the candidates.
Result<Flavors> ChooseFlavors(const ConvertRequest& request, const Source& source,
                              const ModelConfig& config);

/// The target's tensors, in their types, as views of the source's.
struct TargetTensors {
  Mapping mapping;                  ///< whole tensors
  std::vector<RankTensor> ranks;    ///< a Megatron target's
  Layout layout;
  std::vector<Pattern> not_held;    ///< names that the source's flavor leaves out of the whole model
};

/// By name, and, for a Megatron target, by rank. `config` is the model's, `stored_config` the one that
/// lies with the source: it says how the weights are quantized.
Result<TargetTensors> MapTensors(const ConvertRequest& request, const Source& source,
                                 const Flavors& flavors, const ModelConfig& config,
                                 const ModelConfig& stored_config,
                                 const std::vector<Regex>& ignore, const CastRules& casts,
                                 const HubStyle& style);

}  // namespace reshard

#endif  // RESHARD_API_FLAVORS_H_
