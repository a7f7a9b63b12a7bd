#ifndef RESHARD_FORMATS_DCP_RELATIVE_PATH_H_
#define RESHARD_FORMATS_DCP_RELATIVE_PATH_H_

#include <optional>
#include <string_view>

namespace reshard::dcp {

/// Why a path from a checkpoint must not be joined to the checkpoint's directory, in words that
/// follow "which"; nothing where it stays within. PyTorch joins paths unchecked.
std::optional<std::string_view> PathProblem(std::string_view path);

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_RELATIVE_PATH_H_
