#include "io/directory.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>

#include "io/file.h"
#include "io/system_call.h"

namespace reshard {
namespace fs = std::filesystem;

Result<PathKind> KindAt(const fs::path& path, ErrorKind kind) {
  struct stat info;
  if (Retry([&] { return ::stat(path.c_str(), &info); }) == 0) {
    if (S_ISREG(info.st_mode)) return PathKind::kFile;
    return S_ISDIR(info.st_mode) ? PathKind::kDirectory : PathKind::kOther;
  }
  // A name too long for the file system is on none of it.
  if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG) return PathKind::kNothing;
  return std::unexpected(SystemError(kind, path.string(), "look at this path", errno));
}

Result<std::vector<std::string>> ListDirectory(const fs::path& directory, ErrorKind kind) {
  const auto fault = [&](int error_number) {
    return std::unexpected(
        SystemError(kind, directory.string(), "list this directory", error_number));
  };
  std::unique_ptr<DIR, int (*)(DIR*)> stream(nullptr, ::closedir);
  do stream.reset(::opendir(directory.c_str()));
  while (!stream && errno == EINTR);
  if (!stream) return fault(errno);

  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry && errno == EINTR) continue;
    if (!entry && errno != 0) return fault(errno);
    if (!entry) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::ranges::sort(names);
  return names;
}

Result<fs::path> AbsolutePath(const fs::path& path, ErrorKind kind) {
  std::error_code code;
  const fs::path whole = fs::absolute(path, code);
  if (!code) return whole.lexically_normal();
  Error error = SystemError(kind, path.string(), "find the working directory", code.value());
  error.help = "give the whole path, or change to a directory that exists";
  return std::unexpected(std::move(error));
}

}  // namespace reshard
