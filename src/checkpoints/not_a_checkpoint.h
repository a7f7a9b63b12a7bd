#ifndef RESHARD_CHECKPOINTS_NOT_A_CHECKPOINT_H_
#define RESHARD_CHECKPOINTS_NOT_A_CHECKPOINT_H_

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "reshard/error.h"
#include "reshard/source.h"

namespace reshard {

/// The error for a path where nothing is: a link to what is gone, a repository of the Hugging Face
/// hub (kind kUsage), or just nothing.
Error TellWhatIsMissing(const std::string& path);

/// The error for a directory of no kind that reshard knows, by the names of what lies in it. `below`
/// are the checkpoints that were found in directories below.
Error TellWhatDirectoryIs(const std::string& path, const std::filesystem::path& directory,
                          const std::vector<std::string>& below);

/// A file that by its name is no checkpoint, whatever is in it: one rank's file of a DCP. Nothing for
/// all others.
std::optional<Error> TellWhatFileIs(const std::filesystem::path& file);

/// `error` as it is, or, where its file is a link to nothing or by its first bytes something else
/// than a file of a checkpoint (a git-lfs pointer, a web page, a GGUF), the error that says so.
Error TellWhatFailed(Error error);

/// An error where the files that a source was read from are not, or not all, what a model's weights
/// are: one of several ranks' files, a PEFT adapter, a DeepSpeed state. They can be looked at, but a
/// conversion would be no model. Where the user has named a recipe (`by_recipe`), only what holds
/// slices of tensors is refused.
Result<> CheckIsModel(const Source& source, bool by_recipe);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_NOT_A_CHECKPOINT_H_
