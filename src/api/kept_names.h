#ifndef RESHARD_API_KEPT_NAMES_H_
#define RESHARD_API_KEPT_NAMES_H_

#include <vector>

#include "recipe/mapping.h"
#include "recipe/model_config.h"
#include "reshard/error.h"
#include "reshard/source.h"

namespace reshard {

/// Of tensors that no recipe knows and that are to be a Hugging Face model under their own names:
/// errors of kind kMapping where an optimizer's are among them, or where none has a name that hub
/// files have of the class in the config, as built-in recipes know it.
Result<> CheckKeptNames(const Source& source, const ModelConfig& config,
                      const std::vector<NamedView>& tensors);

}  // namespace reshard

#endif  // RESHARD_API_KEPT_NAMES_H_
