#ifndef RESHARD_CLI_MM_CONVERT_CONFIG_H_
#define RESHARD_CLI_MM_CONVERT_CONFIG_H_

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/error.h"

namespace reshard::cli {

enum class MmMethod { kHfToMm, kMmToHf, kResplit, kHfToMmDcp };

/// Which models' configurations have a field.
enum class MmFields : unsigned {
  kAll = 0,
  kCanonical = 1,   ///< Qwen2-VL, Qwen2.5-VL, VideoAlign
  kVideoAlign = 2,  ///< VideoAlign alone
};

enum class MmType {
  kText,
  kPath,
  kLayers,  ///< layers of each stage, "[4,4]", or of each chunk's stages, "[[4,4],[4,2]]"
  kCount,   ///< a whole number
  kSize,    ///< a whole number from 1 on
  kFlag,    ///< true or false
};

/// A field of MindSpeed-MM's configuration classes, as they declare it.
struct MmField {
  std::string name;  ///< "cfg.parallel_config.tp_size"
  MmType type;
  const char* standard;  ///< the value where none is given; null: none
  bool required;
  const char* help;
  const char* ignored;  ///< why it has no effect here; null: it has one
};

/// The fields of a method, in the order of --help and --print_config. `models` is what the
/// converter's configuration has beyond the fields of all.
std::vector<MmField> MmFieldsOf(MmMethod method, MmFields models);

/// What --print_config leaves out or adds.
struct MmYamlStyle {
  bool comments = false;
  bool skip_null = false;
  bool skip_default = false;
};

/// Reads "comments,skip_null"; "true" and empty are none. Errors are of kind kUsage.
Result<MmYamlStyle> ParseMmYamlStyle(std::string_view text);

/// The values of one method's fields.
class MmConfig {
 public:
  explicit MmConfig(std::vector<MmField> fields) : fields_(std::move(fields)) {}

  /// Sets a field, hyphens in its name counting as underscores; nothing, or "null", takes a value
  /// back. Errors are of kind kUsage and name the nearest field.
  Result<> Set(std::string_view name, std::optional<std::string> text);

  /// Sets what a YAML file gives. Errors are of kind kUsage and name the line.
  Result<> SetFromFile(const std::string& path);

  /// The files that gave values.
  const std::vector<std::string>& files() const { return files_; }

  /// All required fields must have a value. Errors are of kind kUsage.
  Result<> CheckComplete() const;

  /// Values, or what stands for them where none was given. A field that the method does not have
  /// is empty, and false.
  std::string Text(std::string_view name) const;
  bool Flag(std::string_view name) const;

  /// Fields that were given a value of their own and have no effect, each with the reason.
  std::vector<std::string> IgnoredFields() const;

  /// A file for SetFromFile.
  std::string ToYaml(const MmYamlStyle& style) const;

 private:
  const MmField* Find(std::string_view name) const;

  std::vector<MmField> fields_;
  std::vector<std::string> files_;
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace reshard::cli

#endif  // RESHARD_CLI_MM_CONVERT_CONFIG_H_
