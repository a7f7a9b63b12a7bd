#ifndef RESHARD_CHECKPOINTS_HF_SIDE_FILES_H_
#define RESHARD_CHECKPOINTS_HF_SIDE_FILES_H_

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "reshard/catalog.h"
#include "reshard/error.h"

namespace reshard {

/// Which files of a directory may go beside the weights that are written.
struct SideFileScope {
  /// The directory is a model's: all that is in it belongs to the model. Otherwise it is any
  /// directory, of which only files are taken that are named as a model's files always are.
  bool is_model = true;
  /// Files that are read as weights, relative to the directory: what is written stands for them.
  std::set<std::string> weights{};
};

struct SideFiles {
  std::vector<SourceFile> files;           ///< sorted by path, which is relative to the directory
  std::vector<std::string> left_behind{};  ///< files and folders ("onnx/") that are not taken; sorted
};

/// Looks for what lies beside the weights of a model: everything but weights in this or another
/// format, their indexes, and a training's state, which are `left_behind`. Of a folder all or
/// nothing is taken. Hidden files, caches, and what reshard itself has left are passed over.
///
/// Errors are of kind kSource: a directory or a file that cannot be looked at, and a link to nothing
/// where a loader would look for a file. What cannot be seen is not taken for something that is not
/// there.
Result<SideFiles> FindSideFiles(const std::filesystem::path& directory,
                                const SideFileScope& scope);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_HF_SIDE_FILES_H_
