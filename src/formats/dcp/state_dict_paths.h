#ifndef RESHARD_FORMATS_DCP_STATE_DICT_PATHS_H_
#define RESHARD_FORMATS_DCP_STATE_DICT_PATHS_H_

#include <span>
#include <string>

#include "formats/dcp/dcp_metadata.h"
#include "reshard/error.h"

namespace reshard::dcp {

/// The name that DCP's flattening gives the value at `path`: its keys joined by "."
/// (torch/distributed/checkpoint/_nested_dict.py).
std::string FlatName(const Path& path);

/// A value of a state dict. The path is empty where the name itself is the one key.
struct NamedPath {
  std::string_view name;
  const Path* path = nullptr;
};

/// Checks that a nested state dict with just these values exists, and that torch flattens it to
/// these names: without that, dcp_to_torch_save fails on the checkpoint. Errors are of kind
/// kMapping and name the value: a name that stands twice, has 1 MiB, or is not that of its path; a
/// path that begins with an index, has a negative one, or leads through another value; a container
/// with keys and indices.
Result<> CheckPaths(std::span<const NamedPath> values);

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_STATE_DICT_PATHS_H_
