#ifndef RESHARD_CLI_FILES_H_
#define RESHARD_CLI_FILES_H_

#include <fstream>
#include <sstream>
#include <string>

#include "reshard/error.h"
#include "reshard/local_path.h"

namespace reshard::cli {

/// A small file that was named on the command line.
inline Result<std::string> ReadFile(const std::string& path) {
  if (auto local = CheckIsLocal(path, PathUse::kRead); !local) return std::unexpected(local.error());
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (file) return text.str();
  return std::unexpected(Error{
      .kind = ErrorKind::kUsage, .file = path, .found = "this file cannot be read"});
}

/// The same; of a file with more than `most` bytes only the first `most` + 1.
inline Result<std::string> ReadFile(const std::string& path, size_t most) {
  if (auto local = CheckIsLocal(path, PathUse::kRead); !local) return std::unexpected(local.error());
  std::ifstream file(path, std::ios::binary);
  std::string text(most + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(file.gcount()));
  // A directory opens, but cannot be read; an empty file ends at once.
  if (file || file.eof()) return text;
  return std::unexpected(Error{
      .kind = ErrorKind::kUsage, .file = path, .found = "this file cannot be read"});
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
