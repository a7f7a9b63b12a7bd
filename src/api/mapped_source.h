#ifndef RESHARD_API_MAPPED_SOURCE_H_
#define RESHARD_API_MAPPED_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "api/flavors.h"
#include "api/outputs.h"
#include "reshard/reporter.h"
#include "reshard/request.h"
#include "reshard/source.h"

namespace reshard {

/// A source and what its tensors become.
struct MappedSource {
  std::unique_ptr<Source> source;
  std::string assets;                       ///< where config and tokenizer lie; empty: nowhere
  ModelConfig stored_config{};              ///< the config.json that lies there
  Likeness like;                            ///< what request.like holds
  Flavors flavors;
  TargetTensors target;
};

/// Chooses the recipes and maps the tensors of a source; proves that each element of it has one
/// place, is checked or dropped by name. `replaced` was left out of the source, which has other
/// tensors of these names. Errors are of kind kUsage, kSource or kMapping.
Result<MappedSource> MapSource(const ConvertRequest& request, std::unique_ptr<Source> source,
                               Reporter& reporter, const std::vector<Dropped>& replaced = {});

}  // namespace reshard

#endif  // RESHARD_API_MAPPED_SOURCE_H_
