#ifndef RESHARD_CLI_FILES_H_
#define RESHARD_CLI_FILES_H_

#include <fmt/format.h>

#include <fstream>
#include <string>

#include "io/file.h"
#include "reshard/error.h"
#include "reshard/local_path.h"

namespace reshard::cli {

/// A file that was named on the command line; refused where it is larger than `most` bytes. A plain
/// file: what waits for a writer (`<(...)`) would keep Ctrl-C waiting, too.
inline Result<std::string> ReadFile(const std::string& path, uint64_t most) {
  if (auto local = CheckIsLocal(path, PathUse::kRead); !local) return std::unexpected(local.error());
  auto text = ReadTextFile(path, most);
  if (text) return text;
  Error error = std::move(text).error();
  error.kind = ErrorKind::kUsage;
  error.expected = fmt::format("a plain file of at most {} bytes", most);
  return std::unexpected(std::move(error));
}

inline Result<> WriteFile(const std::string& path, const std::string& text) {
  if (auto local = CheckIsLocal(path, PathUse::kWrite); !local) return local;
  std::ofstream file(path, std::ios::binary);
  file << text << std::flush;
  if (file) return {};
  return std::unexpected(Error{
      .kind = ErrorKind::kDestination, .file = path, .found = "this file cannot be written"});
}

}  // namespace reshard::cli

#endif  // RESHARD_CLI_FILES_H_
