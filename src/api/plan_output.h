#ifndef RESHARD_API_PLAN_OUTPUT_H_
#define RESHARD_API_PLAN_OUTPUT_H_

#include "api/mapped_source.h"
#include "plan/plan_data.h"

namespace reshard {

/// Decides every byte of the files that a request asks for, and proves it. Takes the tensors out of
/// `mapped`. Errors are of kind kMapping.
Result<Plan> PlanOutput(const ConvertRequest& request, MappedSource* mapped, Reporter& reporter);

}  // namespace reshard

#endif  // RESHARD_API_PLAN_OUTPUT_H_
