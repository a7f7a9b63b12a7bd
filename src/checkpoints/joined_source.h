#ifndef RESHARD_CHECKPOINTS_JOINED_SOURCE_H_
#define RESHARD_CHECKPOINTS_JOINED_SOURCE_H_

#include <memory>

#include "reshard/source.h"

namespace reshard {

/// Two checkpoints as one: a model whose language model comes from elsewhere. Of `base` all tensors
/// are left out whose names, numbers aside, are in `overlay` too: of a language model with fewer
/// layers no old layer stays. The notes say how many. Kind and root are those of `base`; the files
/// of `overlay` are listed with its root before their names. Errors are of kind kSource.
Result<std::unique_ptr<Source>> JoinSources(std::unique_ptr<Source> base,
                                            std::unique_ptr<Source> overlay);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_JOINED_SOURCE_H_
