#ifndef RESHARD_CLI_YAML_H_
#define RESHARD_CLI_YAML_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/error.h"

namespace reshard::cli {

inline constexpr size_t kMaxYamlBytes = size_t{1} << 20;
inline constexpr size_t kMaxYamlDepth = 16;  ///< of mappings and lists within each other

/// What stands under one key of a configuration.
struct YamlValue {
  std::string path;   ///< its key, behind the keys above it: "cfg.parallel_config.tp_size"
  std::string text;   ///< a scalar as it stands there, a list as "[[1, 2], [3]]"
  bool null = false;  ///< nothing stands there, or ~ or null
  size_t line = 0;    ///< from 1
};

/// The values of a YAML document that is one mapping, in its order; none of an empty one. What a
/// configuration does not need is refused: anchors, aliases, tags, mappings within lists, a second
/// document. So are damaged text, a key given twice, more than kMaxYamlBytes and more than
/// kMaxYamlDepth. Errors are of kind kUsage and name `file` and the line.
Result<std::vector<YamlValue>> ParseYaml(std::string_view text, const std::string& file);

/// A scalar so that ParseYaml reads it as this text: quoted where it must be.
std::string YamlScalar(std::string_view text);

}  // namespace reshard::cli

#endif  // RESHARD_CLI_YAML_H_
