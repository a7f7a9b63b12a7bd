#ifndef RESHARD_PLAN_SOURCE_CHECK_H_
#define RESHARD_PLAN_SOURCE_CHECK_H_

#include <span>
#include <string_view>
#include <vector>

#include "plan/planner.h"
#include "recipe/mapping.h"
#include "reshard/catalog.h"

namespace reshard {

/// What becomes of the elements of a source.
struct SourceUses {
  struct Copy {
    std::string_view name;  ///< of the target's tensor
    const View* view;
  };
  std::vector<Copy> copies;
  std::span<const Check> checks;
  std::span<const Dropped> dropped;
  std::span<const DroppedPart> dropped_parts;
  Replicas replicas = Replicas::kNone;
};

/// Proves that nothing is lost. Every element of every source tensor is in exactly one of three
/// places: it is copied, once or, with Replicas::kUniform, as often as every other copied element
/// of its tensor; or a check compares it with elements that are not left out themselves, or only
/// after such a check; or it is dropped by name. Scales are in none of these, but all values of
/// their tensor are multiplied by them. Errors are of kind kMapping and name tensor and element.
///
/// Costs as much as the views have regions, n log n, however large the tensors are.
Result<> CheckSource(const SourceUses& uses, const Catalog& catalog);

/// An error of kind kMapping.
Error MappingFault(std::string tensor, std::string found, std::string expected);

}  // namespace reshard

#endif  // RESHARD_PLAN_SOURCE_CHECK_H_
