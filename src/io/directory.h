#ifndef RESHARD_IO_DIRECTORY_H_
#define RESHARD_IO_DIRECTORY_H_

#include <filesystem>
#include <string>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// What lies at a path, behind links.
enum class PathKind { kNothing, kFile, kDirectory, kOther };

/// What lies at `path`; kNothing where there is nothing, a link to nothing included. That it cannot
/// be told (EACCES of a parent, EIO) is an error of kind `kind`: "I do not know" is not "no".
Result<PathKind> KindAt(const std::filesystem::path& path, ErrorKind kind = ErrorKind::kSource);

/// The names in a directory, sorted, without "." and "..". A listing that breaks off is an error of
/// kind `kind`: a file that was not seen must not be taken for one that is not there.
Result<std::vector<std::string>> ListDirectory(const std::filesystem::path& directory,
                                               ErrorKind kind = ErrorKind::kSource);

/// `path` from "/" on, its "." and ".." resolved as text (links stay). An error of kind
/// `kind` where it is relative and the working directory has been deleted.
Result<std::filesystem::path> AbsolutePath(const std::filesystem::path& path,
                                           ErrorKind kind = ErrorKind::kSource);

}  // namespace reshard

#endif  // RESHARD_IO_DIRECTORY_H_
