#ifndef RESHARD_CHECKPOINTS_JOINED_SOURCE_H_
#define RESHARD_CHECKPOINTS_JOINED_SOURCE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "reshard/source.h"

namespace reshard {

using NameFilter = std::function<bool(const std::string& name)>;

/// Two checkpoints as one: a model whose language model is from elsewhere. Of `base` those tensors
/// are left out whose names `overlay` has too. Kind and root are those of `base`; the files of
/// `overlay` are listed with its root before their names.
struct JoinedSources {
  std::unique_ptr<Source> source;
  std::vector<Tensor> replaced;  ///< of `base`, not in the catalog
  /// Tensors of `base` that stay though `overlay` has some with the same names but for numbers: old
  /// layers beside new ones, where it has fewer.
  std::vector<std::string> left_over;
};

/// Errors are of kind kSource. Where `wanted` is given, `overlay` gives those tensors alone whose
/// names it takes.
Result<JoinedSources> JoinSources(std::unique_ptr<Source> base, std::unique_ptr<Source> overlay,
                                  const NameFilter& wanted = {});

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_JOINED_SOURCE_H_
