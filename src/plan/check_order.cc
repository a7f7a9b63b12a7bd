#include "plan/check_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/try.h"
#include "plan/source_check.h"
#include "view/lower.h"

namespace reshard {
namespace {

using Regions = std::map<uint32_t, std::vector<Region>>;  // by source tensor

Regions RegionsOf(const View& view) {
  Regions regions;
  (void)LowerWhole(view, [&](const Region& region) -> Result<> {
    if (region.source != Region::kFill) regions[region.source].push_back(region);
    return {};
  });
  return regions;
}

// Of the smallest boxes that hold the regions: never says no where an element is in both.
bool MayMeet(const Region& a, const Region& b) {
  for (size_t dim = 0; dim < a.start.size(); ++dim) {
    const Reach of_a = ReachAlong(a, dim), of_b = ReachAlong(b, dim);
    if (of_a.last < of_b.first || of_b.last < of_a.first) return false;
  }
  return true;
}

// A tensor that a check leaves out, or part of it.
struct LeftOut {
  std::vector<uint32_t> replicas;      // tensors of which a check says that they are equal to it
  size_t waits_for = 0;                // tensors that it is equal to and are not yet known to stay
  std::vector<Region> parts, origins;  // where they are compared with parts of the same tensor
};

}  // namespace

Result<> CheckOrder(std::span<const Check> checks, const std::set<std::string_view>& dropped,
                    const Catalog& catalog) {
  const auto fault = [&](uint32_t tensor, std::string found) {
    return std::unexpected(MappingFault(catalog.tensors()[tensor].name, std::move(found),
                                        "a check against elements that the target holds"));
  };
  std::map<uint32_t, LeftOut> tensors;
  for (const Check& check : checks)
    for (const auto& [tensor, regions] : RegionsOf(check.view)) tensors[tensor];
  for (const Check& check : checks) {
    Regions views = RegionsOf(check.view);
    for (auto& [origin, regions] : RegionsOf(check.equals)) {
      if (dropped.contains(catalog.tensors()[origin].name))
        return fault(origin,
                     fmt::format("it is dropped, and '{}' only compared with it", check.name));
      const auto left_out = tensors.find(origin);
      if (left_out == tensors.end()) continue;
      for (auto& [tensor, parts] : views) {
        if (tensor == origin) {
          std::ranges::copy(parts, std::back_inserter(left_out->second.parts));
          std::ranges::copy(regions, std::back_inserter(left_out->second.origins));
          continue;
        }
        left_out->second.replicas.push_back(tensor);
        ++tensors[tensor].waits_for;
      }
    }
  }
  std::vector<uint32_t> stay;
  for (const auto& [tensor, left_out] : tensors) {
    for (const Region& part : left_out.parts)
      for (const Region& origin : left_out.origins)
        if (MayMeet(part, origin)) return fault(tensor, "parts of it are compared in a circle");
    if (left_out.waits_for == 0) stay.push_back(tensor);
  }
  for (size_t i = 0; i < stay.size(); ++i)
    for (uint32_t replica : tensors[stay[i]].replicas)
      if (--tensors[replica].waits_for == 0) stay.push_back(replica);
  for (const auto& [tensor, left_out] : tensors)
    if (left_out.waits_for > 0)
      return fault(tensor, "it and others are only compared with each other, in a circle");
  return {};
}

}  // namespace reshard
