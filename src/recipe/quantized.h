#ifndef RESHARD_RECIPE_QUANTIZED_H_
#define RESHARD_RECIPE_QUANTIZED_H_

#include <set>
#include <string_view>
#include <vector>

#include "recipe/mapping.h"
#include "recipe/model_config.h"
#include "reshard/error.h"

namespace reshard {

/// Whether a tensor of this name holds the scales of another one.
bool NamesScales(std::string_view name);

/// Tells which tensors of a mapping are scales of quantized weights, whatever the method: by their
/// names, and by integers or float8 values beside them. `X.weight_scale` by a bfloat16 `X.weight`
/// is a parameter as any other. The tensors must outlive it.
class QuantizedModules {
 public:
  explicit QuantizedModules(const std::vector<NamedView>& tensors);

  bool ScaledBy(std::string_view name) const;

 private:
  std::set<std::string_view> names_;  ///< of quantized values, and of the modules that they are in
};

/// Joins each float8 tensor of a mapping, whose views are whole tensors of the source, with its
/// scales, the tensor of its name with "_scale_inv" or "_scale" behind it (both are multiplied by),
/// into one tensor of float32. How many values share a scale follows from the shapes, or from
/// `quantization_config.weight_block_size` in config.json.
///
/// Values without scales, scales without values, and a mapping without any float8 tensor are errors
/// of kind kMapping.
Result<> Dequantize(const ModelConfig& config, Mapping* mapping);

}  // namespace reshard

#endif  // RESHARD_RECIPE_QUANTIZED_H_
