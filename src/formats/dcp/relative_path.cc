#include "formats/dcp/relative_path.h"

#include <algorithm>

namespace reshard::dcp {

std::optional<std::string_view> PathProblem(std::string_view path) {
  if (path.empty()) return "is empty";
  if (path.front() == '/') return "is absolute";
  if (path.find('\0') != path.npos) return "contains a NUL";
  // A separator, or the start of an absolute path, on other systems.
  if (path.find('\\') != path.npos) return "contains a backslash";
  if (path.size() >= 2 && path[1] == ':') return "begins with a drive";
  while (true) {
    const size_t slash = std::min(path.find('/'), path.size());
    if (path.substr(0, slash) == "..") return "leaves the directory through \"..\"";
    if (slash == path.size()) return std::nullopt;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace reshard::dcp
