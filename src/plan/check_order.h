#ifndef RESHARD_PLAN_CHECK_ORDER_H_
#define RESHARD_PLAN_CHECK_ORDER_H_

#include <set>
#include <span>
#include <string_view>

#include "recipe/mapping.h"
#include "reshard/catalog.h"

namespace reshard {

/// Proves that what checks leave out is equal to something that stays: two replicas that are only
/// compared with each other would both be lost. What a check compares with may itself be left out
/// by another check, but not in a circle, and not be dropped. Tensors are taken as wholes, but for
/// parts of one tensor that are compared with other parts of it.
Result<> CheckOrder(std::span<const Check> checks, const std::set<std::string_view>& dropped,
                    const Catalog& catalog);

}  // namespace reshard

#endif  // RESHARD_PLAN_CHECK_ORDER_H_
