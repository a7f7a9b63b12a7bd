#ifndef RESHARD_PLAN_PLANNER_H_
#define RESHARD_PLAN_PLANNER_H_

#include <functional>
#include <string>
#include <vector>

#include "base/file_layout.h"
#include "plan/plan_data.h"
#include "recipe/mapping.h"
#include "recipe/pattern.h"
#include "recipe/regex.h"
#include "reshard/catalog.h"
#include "reshard/error.h"
#include "reshard/request.h"

namespace reshard {

/// Changes of element type: the first override whose expression is found in the target's name wins,
/// else `all`, else of what is dequantized `dequantized`. Types that a cast does not apply to are
/// kept. `all` is not for the scales of quantized weights, nor for the names that `keep` matches.
struct CastRules {
  std::optional<DType> all;
  std::vector<std::pair<Regex, DType>> overrides;
  std::optional<DType> dequantized;  ///< what neither says otherwise of
  std::vector<Pattern> keep{};
};

/// One file's worth of tensors: indices into the tensors of a mapping, in order.
using FileContent = std::vector<size_t>;

/// Casts the tensors of a mapping as the rules say, and counts what `all` is not for. Errors are of
/// kind kMapping.
Result<> ApplyCasts(const CastRules& rules, Mapping* mapping);

/// Distributes tensors over files: each file is filled until the next tensor would take it over
/// `max_bytes` of tensor data; a larger tensor has a file of its own.
std::vector<FileContent> PackFiles(const std::vector<NamedView>& tensors, Packing packing,
                                   uint64_t max_bytes);

/// Puts the views of `content` into the slots of `layout`.
FilePlan FillSlots(std::string path, FileLayout layout, const FileContent& content,
                     const std::vector<NamedView>& tensors);

/// A file whose bytes are all known.
FilePlan TextFile(std::string path, std::string bytes);

/// How often a plan may write an element of the source.
enum class Replicas : uint8_t {
  kNone,     ///< once; no two tensors of the target have one name
  kUniform,  ///< as often as every other copied element of its tensor: ranks of a Megatron target
             ///< hold replicas, under the same names in their files
};

/// Proves the mapping against the source: every element of every source tensor is in one tensor of
/// the target, or a check's `view`, or dropped by name, and exactly once. Errors are of kind
/// kMapping and name the tensor and the element.
Result<> CheckMapping(const Mapping& mapping, const Catalog& catalog);

/// Proves the plan against the source: every byte of every file has exactly one origin, and every
/// element of every source tensor is copied, compared by a check, or dropped by name, as in
/// CheckMapping. Errors are of kind kMapping and name the tensor and the element.
Result<> CheckPlan(const Plan& plan, const Catalog& catalog, Replicas replicas = Replicas::kNone);

/// Fills in the numbers of the summary and the plan_id. `recipe_text` and `request` are what else
/// the output's bytes depend on.
void Summarize(const Catalog& catalog, std::string_view recipe_text, std::string_view request,
               Plan* plan);

/// Whether a node of the view is `op`.
bool Uses(const View& view, View::Op op);

/// The plan as a value to print.
PlanDescription Describe(const Plan& plan, const Catalog& catalog, Detail detail);

/// Compares names with runs of digits by their value: "a2" before "a10".
bool NaturalLess(std::string_view a, std::string_view b);

}  // namespace reshard

#endif  // RESHARD_PLAN_PLANNER_H_
