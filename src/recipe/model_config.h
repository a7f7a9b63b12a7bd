#ifndef RESHARD_RECIPE_MODEL_CONFIG_H_
#define RESHARD_RECIPE_MODEL_CONFIG_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// The whole numbers, flags and texts of a model's config.json, by dotted path
/// ("text_config.hidden_size"). A text is a flag of the path with it behind
/// ("text_config.model_type.qwen2"), as is each of a list of texts, which is a list of the places
/// where it stands, too ("layer_types.full_attention"). Other values (fractions, null) count as
/// absent. A value.
class ModelConfig {
 public:
  /// A config without any value.
  ModelConfig() = default;

  /// Errors are of kind kSource and name `file`.
  static Result<ModelConfig> Parse(std::string_view json, const std::string& file);

  /// A number, or a flag as 0 or 1.
  std::optional<int64_t> Number(std::string_view path) const;

  /// A list of numbers; null where there is none.
  const std::vector<int64_t>* List(std::string_view path) const;

  bool HasObject(std::string_view path) const;

  /// The classes that config.json names for the model.
  const std::vector<std::string>& architectures() const { return architectures_; }

  const std::string& file() const { return file_; }

 private:
  struct Reader;
  std::string file_;
  std::map<std::string, int64_t, std::less<>> numbers_;
  std::map<std::string, std::vector<int64_t>, std::less<>> lists_;
  std::set<std::string, std::less<>> objects_;
  std::vector<std::string> architectures_;
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_MODEL_CONFIG_H_
