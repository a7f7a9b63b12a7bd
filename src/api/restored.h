#ifndef RESHARD_API_RESTORED_H_
#define RESHARD_API_RESTORED_H_

#include <memory>
#include <string>
#include <vector>

#include "recipe/mapping.h"
#include "recipe/model_config.h"
#include "recipe/recipe.h"
#include "reshard/source.h"

namespace reshard {

/// What a flavor leaves out of a model that needs it, such as the part that speaks where the part
/// that thinks is trained alone: the names of hub tensors that the recipe drops with `restore`.
Result<std::vector<Pattern>> RestoredNames(const Recipe& recipe, const ModelConfig& config);

/// The source, and beside its own tensors those of a Hugging Face directory that have such names.
/// Errors are of kind kSource.
Result<std::unique_ptr<Source>> AddRestored(std::unique_ptr<Source> source,
                                            const std::vector<Pattern>& names,
                                            const std::string& directory);

/// Takes out of the mapping the tensors that AddRestored has added: no recipe maps them.
std::vector<NamedView> TakeRestored(const std::vector<Pattern>& names, Mapping* mapping);

/// An error of kind kMapping where such tensors are not to be had.
Result<> CheckRestored(const std::vector<Pattern>& names, const std::string& directory);

}  // namespace reshard

#endif  // RESHARD_API_RESTORED_H_
