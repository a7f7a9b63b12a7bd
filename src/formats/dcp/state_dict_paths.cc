#include "formats/dcp/state_dict_paths.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "base/try.h"

namespace reshard::dcp {
namespace {

constexpr size_t kMaxName = size_t{1} << 20;
constexpr size_t kShownName = 60;

std::unexpected<Error> DoesNotFit(std::string_view name, std::string found, std::string expected) {
  return std::unexpected(Error{.kind = ErrorKind::kMapping,
                               .tensor = std::string(name),
                               .found = std::move(found),
                               .expected = std::move(expected)});
}

bool IsIndex(const PathKey& key) { return std::holds_alternative<int64_t>(key); }

bool IsNegative(const PathKey& key) {
  const auto* index = std::get_if<int64_t>(&key);
  return index != nullptr && *index < 0;
}

Result<> CheckPath(std::string_view name, const Path& path) {
  if (name.size() >= kMaxName)
    return DoesNotFit(name.substr(0, kShownName), fmt::format("a name of {} bytes", name.size()),
                      fmt::format("fewer than {} bytes", kMaxName));
  if (IsIndex(path.front()) || std::ranges::any_of(path, IsNegative))
    return DoesNotFit(name, "a path that begins with an index, or has a negative one",
                      "a key of the state dict first, and indices from 0");
  const std::string flat = FlatName(path);
  if (flat == name) return {};
  return DoesNotFit(name, fmt::format("a path whose name is '{}'", flat),
                    "the keys of the path, joined by dots, as the name");
}

// Of two paths that follow each other in sorted order.
Result<> CheckNeighbours(std::string_view before, const Path& a, std::string_view name,
                         const Path& b) {
  const auto [in_a, in_b] = std::ranges::mismatch(a, b);
  if (in_a == a.end())
    return DoesNotFit(name, fmt::format("a path that leads through '{}'", before),
                      "a container there, not a value");
  if (IsIndex(*in_a) != IsIndex(*in_b))
    return DoesNotFit(name,
                      fmt::format("one container holds it by index and '{}' by key, or the other "
                                  "way round",
                                  before),
                      "a dict or a list");
  return {};
}

}  // namespace

std::string FlatName(const Path& path) {
  std::string name;
  for (const PathKey& key : path) {
    if (&key != &path.front()) name += '.';
    if (const auto* index = std::get_if<int64_t>(&key))
      fmt::format_to(std::back_inserter(name), "{}", *index);
    else
      name += std::get<std::string>(key);
  }
  return name;
}

Result<> CheckPaths(std::span<const NamedPath> values) {
  std::vector<NamedPath> sorted(values.begin(), values.end());
  std::ranges::sort(sorted, {}, &NamedPath::name);
  const auto twice = std::ranges::adjacent_find(sorted, {}, &NamedPath::name);
  if (twice != sorted.end())
    return DoesNotFit(twice->name, "two values of this name", "distinct names");

  std::vector<Path> whole;
  for (NamedPath& value : sorted)
    if (value.path->empty()) whole.push_back({PathKey(std::string(value.name))});
  auto next = whole.begin();
  for (NamedPath& value : sorted) {
    if (value.path->empty()) value.path = &*next++;
    RESHARD_TRY(CheckPath(value.name, *value.path));
  }
  // Paths with a common beginning are neighbours, keys before indices.
  std::ranges::sort(sorted, {}, [](const NamedPath& value) -> const Path& { return *value.path; });
  for (size_t i = 1; i < sorted.size(); ++i)
    RESHARD_TRY(
        CheckNeighbours(sorted[i - 1].name, *sorted[i - 1].path, sorted[i].name, *sorted[i].path));
  return {};
}

}  // namespace reshard::dcp
