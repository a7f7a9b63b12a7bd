#ifndef RESHARD_API_OUTPUTS_H_
#define RESHARD_API_OUTPUTS_H_

#include <map>
#include <string>
#include <vector>

#include "api/carried_state.h"
#include "api/flavors.h"
#include "plan/plan_data.h"
#include "reshard/request.h"

namespace reshard {

/// What a Hugging Face directory says about names and files: which file holds each tensor.
struct Likeness {
  std::map<std::string, std::string> files;  ///< tensor -> the file that holds it
  std::map<std::string, Shape> shapes;       ///< of the tensors
};
Result<Likeness> ReadLikeness(const std::string& directory);

/// Adds the weight files of a Hugging Face directory to the plan, and their index. `like` says which
/// tensor goes to which file; empty: the request does. `metadata` goes into each file that has a
/// place for it. Errors are of kind kMapping.
Result<> PlanHf(const ConvertRequest& request, const std::vector<NamedView>& tensors,
                const std::map<std::string, std::string>& like,
                const std::map<std::string, std::string>& metadata, Plan* plan);

/// Adds the files of a DCP checkpoint. `state` is empty, or of these tensors. Errors are of kind
/// kMapping.
Result<> PlanDcp(const ConvertRequest& request, const std::vector<NamedView>& tensors,
                 CarriedState state, Plan* plan);

/// Adds the files of all ranks of a Megatron iteration. Errors are of kind kMapping.
Result<> PlanMegatron(TargetTensors target, Plan* plan);

}  // namespace reshard

#endif  // RESHARD_API_OUTPUTS_H_
