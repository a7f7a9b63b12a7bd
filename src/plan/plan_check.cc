#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/checked_math.h"
#include "base/try.h"
#include "plan/planner.h"
#include "view/catalog_builder.h"
#include "view/lower.h"

namespace reshard {
namespace {

Error CheckError(std::string tensor, std::string found, std::string expected) {
  return Error{.kind = ErrorKind::kMapping,
               .tensor = std::move(tensor),
               .found = std::move(found),
               .expected = std::move(expected),
               .help = "the recipe does not fit this checkpoint: reshard recipe show prints it"};
}

// Literals and slots, in order, must meet end to end.
Result<> CheckFileIsCovered(const FilePlan& file) {
  struct Part {
    uint64_t begin;
    uint64_t length;
    std::string_view name;
  };
  std::vector<Part> parts;
  for (const Literal& literal : file.literals)
    parts.push_back({literal.offset, literal.bytes.size(), "<header>"});
  // A tensor without elements has a place, which may lie within a literal, but no bytes.
  for (const Slot& slot : file.slots)
    if (slot.byte_size() > 0) parts.push_back({slot.offset, slot.byte_size(), slot.name});
  std::ranges::sort(parts, [](const Part& a, const Part& b) {
    return std::pair(a.begin, a.length) < std::pair(b.begin, b.length);
  });
  uint64_t end = 0;
  for (const Part& part : parts) {
    if (part.begin != end)
      return std::unexpected(
          CheckError(std::string(part.name),
                     fmt::format("in {} it starts at byte {}", file.path, part.begin),
                     fmt::format("byte {}, where what is before it ends", end)));
    end += part.length;
  }
  if (end != file.size)
    return std::unexpected(CheckError({}, fmt::format("{} has bytes that nothing fills", file.path),
                                      fmt::format("{} bytes, not {}", file.size, end)));
  return {};
}

// The boxes of one source tensor that the target's views read.
struct Uses {
  std::vector<std::vector<int64_t>> starts;
  std::vector<std::vector<int64_t>> extents;
};

Result<> CollectUses(const Slot& slot, const Catalog& catalog, std::map<uint32_t, Uses>* uses) {
  return LowerWhole(slot.view, [&](const Region& region) -> Result<> {
    if (region.source == Region::kFill) return {};
    std::vector<int64_t> extent(catalog.tensors()[region.source].shape.size(), 1);
    for (const Loop& loop : region.loops) extent[loop.dim] = loop.extent;
    Uses& use = (*uses)[region.source];
    use.starts.push_back(region.start);
    use.extents.push_back(std::move(extent));
    return {};
  });
}

}  // namespace

Result<> CheckPlan(const Plan& plan, const Catalog& catalog) {
  std::set<std::string_view> names;
  std::map<uint32_t, Uses> uses;
  for (const FilePlan& file : plan.files) {
    if (file.copy_of.empty()) RESHARD_TRY(CheckFileIsCovered(file));
    for (const Slot& slot : file.slots) {
      if (!names.insert(slot.name).second)
        return std::unexpected(
            CheckError(slot.name, "the target has this name twice", "each name once"));
      RESHARD_TRY(CollectUses(slot, catalog, &uses));
    }
  }
  std::set<std::string_view> dropped;
  for (const Dropped& drop : plan.dropped) dropped.insert(drop.name);

  std::vector<BoxView> boxes;
  for (uint32_t i = 0; i < catalog.tensors().size(); ++i) {
    const Tensor& tensor = catalog.tensors()[i];
    const auto use = uses.find(i);
    if (dropped.contains(tensor.name)) {
      if (use == uses.end()) continue;
      return std::unexpected(CheckError(tensor.name, "it is both dropped and copied", "one of the two"));
    }
    boxes.clear();
    if (use != uses.end())
      for (size_t k = 0; k < use->second.starts.size(); ++k)
        boxes.push_back({use->second.starts[k], use->second.extents[k]});
    if (auto tiled = CheckTiling(tensor.shape, boxes); !tiled)
      return std::unexpected(
          CheckError(tensor.name,
                     boxes.empty() ? "no tensor of the target holds it"
                                   : "the target does not hold each of its elements exactly once",
                     "every element of the source once, or the tensor dropped by name"));
  }
  return {};
}

}  // namespace reshard
