#ifndef RESHARD_API_LANGUAGE_MODEL_H_
#define RESHARD_API_LANGUAGE_MODEL_H_

#include <memory>
#include <vector>

#include "reshard/plan.h"
#include "reshard/request.h"
#include "reshard/source.h"

namespace reshard {

/// Lays the tensors of `request.llm_from` over those of `base`. What they replace is added to
/// `replaced`; what they do not replace stays. A layer that stays though the config.json beside the
/// new ones counts fewer is an error (kMapping), unless `request.ignore` takes it out.
Result<std::unique_ptr<Source>> TakeLanguageModel(const ConvertRequest& request,
                                                  std::unique_ptr<Source> base,
                                                  std::vector<Dropped>* replaced);

}  // namespace reshard

#endif  // RESHARD_API_LANGUAGE_MODEL_H_
