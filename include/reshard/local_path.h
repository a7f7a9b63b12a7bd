#ifndef RESHARD_LOCAL_PATH_H_
#define RESHARD_LOCAL_PATH_H_

#include <string_view>

#include "reshard/error.h"

namespace reshard {

/// What is to be done with a path.
enum class PathUse { kRead, kWrite };

/// An error of kind kUsage for what is no path but a URL: "s3://bucket/run", "hf://org/name", and
/// "s3:/bucket/run", which is what Python's Path makes of the first. reshard reads and writes files
/// of this machine alone; taken as a path, a URL would name a directory in the current one.
Result<> CheckIsLocal(std::string_view path, PathUse use);

}  // namespace reshard

#endif  // RESHARD_LOCAL_PATH_H_
