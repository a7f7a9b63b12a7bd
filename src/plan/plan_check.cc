#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/try.h"
#include "plan/planner.h"
#include "plan/source_check.h"

namespace reshard {
namespace {

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
      return std::unexpected(MappingFault(
          std::string(part.name), fmt::format("in {} it starts at byte {}", file.path, part.begin),
          fmt::format("byte {}, where what is before it ends", end)));
    end += part.length;
  }
  if (end != file.size)
    return std::unexpected(MappingFault({},
                                        fmt::format("{} has bytes that nothing fills", file.path),
                                        fmt::format("{} bytes, not {}", file.size, end)));
  return {};
}

}  // namespace

Result<> CheckMapping(const Mapping& mapping, const Catalog& catalog) {
  SourceUses uses{
      .checks = mapping.checks, .dropped = mapping.dropped, .dropped_parts = mapping.dropped_parts};
  std::set<std::string_view> names;
  for (const NamedView& tensor : mapping.tensors) {
    if (!names.insert(tensor.name).second)
      return std::unexpected(
          MappingFault(tensor.name, "the target has this name twice", "each name once"));
    uses.copies.push_back({tensor.name, &tensor.view});
  }
  return CheckSource(uses, catalog);
}

Result<> CheckPlan(const Plan& plan, const Catalog& catalog, Replicas replicas) {
  SourceUses uses{.checks = plan.checks,
                  .dropped = plan.dropped,
                  .dropped_parts = plan.dropped_parts,
                  .replicas = replicas};
  std::set<std::string_view> paths, names;
  for (const FilePlan& file : plan.files) {
    if (!paths.insert(file.path).second)
      return std::unexpected(MappingFault(
          {}, fmt::format("two files of the target have the path {}", file.path), "each once"));
    if (file.copy_of.empty()) RESHARD_TRY(CheckFileIsCovered(file));
    if (replicas == Replicas::kUniform) names.clear();
    for (const Slot& slot : file.slots) {
      if (!names.insert(slot.name).second)
        return std::unexpected(MappingFault(
            slot.name,
            fmt::format("{} has this name twice",
                        replicas == Replicas::kNone ? std::string("the target") : file.path),
            "each name once"));
      uses.copies.push_back({slot.name, &slot.view});
    }
  }
  return CheckSource(uses, catalog);
}

}  // namespace reshard
