#ifndef RESHARD_CHECKPOINTS_JOINED_SOURCE_H_
#define RESHARD_CHECKPOINTS_JOINED_SOURCE_H_

#include <functional>
#include <memory>
#include <string>

#include "reshard/source.h"

namespace reshard {

using NameFilter = std::function<bool(const std::string& name)>;

/// Two checkpoints as one: a model whose language model comes from elsewhere. Of `base` all tensors
/// are left out whose names, numbers aside, are in `overlay` too: of a language model with fewer
/// layers no old layer stays. The notes say how many. Kind and root are those of `base`; the files
/// of `overlay` are listed with its root before their names. Errors are of kind kSource.
/// Where `wanted` is given, `overlay` gives those tensors alone whose names it takes.
Result<std::unique_ptr<Source>> JoinSources(std::unique_ptr<Source> base,
                                            std::unique_ptr<Source> overlay,
                                            const NameFilter& wanted = {});

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_JOINED_SOURCE_H_
