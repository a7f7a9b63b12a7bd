#include "recipe/quantized.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "base/checked_math.h"
#include "base/try.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

// DeepSeek and transformers' fp8 say the first, compressed-tensors, ModelOpt and FBGEMM the second.
constexpr std::array<std::string_view, 2> kSuffixes = {"_scale_inv", "_scale"};
constexpr std::string_view kBlockSize = "quantization_config.weight_block_size";

std::unexpected<Error> Misfit(const std::string& tensor, std::string found, std::string expected,
                              std::string help) {
  return std::unexpected(Error{.kind = ErrorKind::kMapping,
                               .tensor = tensor,
                               .found = std::move(found),
                               .expected = std::move(expected),
                               .help = std::move(help)});
}

// What the values of each dimension share a scale with. A size that only the config can tell is
// never guessed: 200 values with two scales may be blocks of 128, or of 100.
Result<Shape> BlockOf(const NamedView& values, const Shape& scales, const ModelConfig& config) {
  const Shape& shape = values.view.shape();
  if (CheckedNumel(scales) == 1) {
    Shape all = shape;
    std::ranges::transform(all, all.begin(), [](int64_t extent) { return std::max<int64_t>(extent, 1); });
    return all;
  }
  const std::vector<int64_t>* sizes = config.List(kBlockSize);
  const size_t sized = sizes ? std::min(sizes->size(), shape.size()) : 0;
  Shape block;
  for (size_t dim = 0; dim < shape.size() && dim < scales.size(); ++dim) {
    const size_t from_last = shape.size() - dim;
    if (scales[dim] == shape[dim])
      block.push_back(1);
    else if (scales[dim] == 1)
      block.push_back(shape[dim]);
    else if (from_last <= sized)
      block.push_back((*sizes)[sizes->size() - from_last]);
    else
      return Misfit(values.name,
                    fmt::format("scales {} for values {}", ShapeText(scales), ShapeText(shape)),
                    fmt::format("{} in config.json, as no shape says how large a block is",
                                kBlockSize),
                    "give the model's directory with --assets-from");
  }
  return block;
}

// The last part of a scale's name, or what stands there behind an underscore: `weight_scale`,
// `k_scale`, `scales` (GPTQ, AWQ), `weight_scale_2` (ModelOpt), `weight.absmax` and `SCB`
// (bitsandbytes), `zero` (HQQ).
constexpr std::array<std::string_view, 9> kScaleWords = {
    "scale", "scales", "scale_inv", "scale_2", "absmax", "quant_map", "SCB", "zero", "zeros"};

bool HoldsQuantizedValues(DType dtype) {
  return IsFloat8(dtype) || dtype == DType::kInt8 || dtype == DType::kUInt8 ||
         dtype == DType::kInt32 || dtype == DType::kFloat4E2M1FNx2;
}

std::string_view ModuleOf(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

}  // namespace

QuantizedModules::QuantizedModules(const std::vector<NamedView>& tensors) {
  for (const NamedView& tensor : tensors) {
    if (!HoldsQuantizedValues(tensor.view.dtype())) continue;
    names_.insert(tensor.name);
    if (const auto module = ModuleOf(tensor.name); !module.empty()) names_.insert(module);
  }
}

bool QuantizedModules::ScaledBy(std::string_view name) const {
  const std::string_view module = ModuleOf(name);
  if (!names_.contains(module)) return false;
  const std::string_view last = name.substr(module.size() + 1);
  return std::ranges::any_of(kScaleWords, [&](std::string_view word) {
    return last == word || (last.ends_with(word) && last[last.size() - word.size() - 1] == '_');
  });
}

bool NamesScales(std::string_view name) {
  return name.ends_with("_scale_inv") || name.ends_with(".weight_scale");
}

Result<> Dequantize(const ModelConfig& config, Mapping* mapping) {
  std::map<std::string_view, const NamedView*> by_name;
  for (const NamedView& tensor : mapping->tensors) by_name.emplace(tensor.name, &tensor);
  const auto find = [&](std::string_view name) {
    const auto at = by_name.find(name);
    return at == by_name.end() ? nullptr : at->second;
  };
  std::set<std::string_view> used;
  std::vector<NamedView> joined;
  for (const NamedView& values : mapping->tensors) {
    if (!IsFloat8(values.view.dtype())) continue;
    const NamedView* scales = nullptr;
    for (std::string_view suffix : kSuffixes)
      if (!scales) scales = find(fmt::format("{}{}", values.name, suffix));
    if (!scales)
      return Misfit(values.name,
                    fmt::format("{} values without a scale", DTypeName(values.view.dtype())),
                    fmt::format("'{}{}' or '{}{}'", values.name, kSuffixes[0], values.name,
                                kSuffixes[1]),
                    "without --dequantize they are carried as they are");
    used.insert(scales->name);
    RESHARD_ASSIGN(Shape block, BlockOf(values, scales->view.shape(), config));
    auto view = View::Dequantize(values.view, scales->view, std::move(block));
    if (!view) {
      view.error().tensor = values.name;
      return std::unexpected(std::move(view).error());
    }
    joined.push_back({values.name, *std::move(view)});
  }
  if (joined.empty())
    return Misfit({}, "no tensor has a float8 type",
                  "float8 weights and their scales, named 'X.weight' and 'X.weight_scale_inv'",
                  "leave --dequantize out: other quantized weights are carried as they are");
  auto product = joined.begin();
  std::vector<NamedView> tensors;
  for (NamedView& tensor : mapping->tensors) {
    if (used.contains(tensor.name)) continue;
    if (NamesScales(tensor.name))
      return Misfit(tensor.name, "scales without float8 values", "the values beside them",
                    "what they scale is lost, or of another type; --ignore leaves them out");
    tensors.push_back(IsFloat8(tensor.view.dtype()) ? *product++ : std::move(tensor));
  }
  mapping->tensors = std::move(tensors);
  return {};
}

}  // namespace reshard
