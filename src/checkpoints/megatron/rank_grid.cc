#include "checkpoints/megatron/rank_grid.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "base/try.h"

namespace reshard::megatron {
namespace {

Error Incomplete(const std::string& directory, std::string found, std::string expected) {
  return Error{.kind = ErrorKind::kSource,
               .file = directory,
               .found = std::move(found),
               .expected = std::move(expected),
               .help = "copy the checkpoint again, with the directories of every rank"};
}

Error Missing(const std::string& directory, const std::string& name, std::string expected) {
  return Incomplete(directory, fmt::format("the directory {} is missing", name),
                    std::move(expected));
}

std::string RankText(const RankGrid& grid) {
  std::string text = fmt::format("{}", grid.tp_size);
  if (grid.suffixes > 0) text += fmt::format(" x {}", grid.first_size);
  if (grid.suffixes > 1) text += fmt::format(" x {}", grid.second_size);
  return text;
}

// The number below which all of an axis lie.
template <typename Number>
uint32_t SizeOf(const std::vector<RankName>& names, Number number) {
  uint32_t size = 1;
  for (const RankName& name : names) size = std::max(size, number(name) + 1);
  return size;
}

// Walks grid and sorted names side by side, so that a damaged name's number costs nothing.
Result<> CheckHoles(const RankGrid& grid, const std::vector<RankName>& names,
                    const std::string& directory) {
  RankName expected{.tp = 0};
  if (grid.suffixes > 0) expected.first = 0;
  if (grid.suffixes > 1) expected.second = 0;
  for (auto at = names.begin();; ++at) {
    if (at == names.end() || ByNumbers(*at, expected) != 0)
      return std::unexpected(Missing(directory,
                                     FormatRankName(expected.tp, expected.first, expected.second),
                                     fmt::format("all of {} ranks", RankText(grid))));
    if (expected.second && ++*expected.second < grid.second_size) continue;
    if (expected.second) expected.second = 0;
    if (expected.first && ++*expected.first < grid.first_size) continue;
    if (expected.first) expected.first = 0;
    if (++expected.tp == grid.tp_size) return {};
  }
}

// Whether the names are those of fewer expert-tensor ranks than tensor ranks: Megatron numbers a
// stage's processes by tensor rank first, but experts by expert-tensor rank, then expert rank, so
// some pairs have no process.
bool HasFewerExpertShards(const RankGrid& grid, const std::vector<RankName>& names) {
  const uint32_t pp = grid.suffixes > 1 ? grid.first_size : 1;
  const uint32_t ep = grid.suffixes > 1 ? grid.second_size : grid.first_size;
  if (grid.suffixes == 0 || grid.tp_size > names.size() || ep > names.size()) return false;
  for (uint32_t etp = 1; etp < grid.tp_size; ++etp) {
    if (grid.tp_size % etp != 0) continue;
    std::set<std::tuple<uint32_t, uint32_t, uint32_t>> wanted, found;
    for (uint64_t process = 0; process < uint64_t{grid.tp_size} * etp * ep; ++process)
      for (uint32_t stage = 0; stage < pp; ++stage)
        wanted.emplace(process % grid.tp_size, stage, process / etp % ep);
    for (const RankName& name : names)
      found.emplace(name.tp, grid.suffixes > 1 ? *name.first : 0,
                    grid.suffixes > 1 ? *name.second : *name.first);
    if (wanted == found) return true;
  }
  return false;
}

int64_t HintOf(const Hints& hints, std::string_view name) {
  const auto at = hints.find(std::string(name));
  return at == hints.end() ? 0 : at->second;
}

}  // namespace

Result<RankGrid> MakeGrid(std::vector<RankName>* names, const std::string& directory) {
  std::ranges::sort(*names, [](const auto& a, const auto& b) { return ByNumbers(a, b) < 0; });
  RankGrid grid{.suffixes = names->front().suffixes()};
  for (const RankName& name : *names)
    if (name.suffixes() != grid.suffixes)
      return std::unexpected(
          Error{.kind = ErrorKind::kSource,
                .file = directory,
                .found = fmt::format("there are both {} and {}", names->front().raw, name.raw),
                .expected = "as many numbers in the name of each rank's directory",
                .help = "these are of different saves: keep one of them"});
  grid.tp_size = SizeOf(*names, [](const RankName& name) { return name.tp; });
  grid.first_size = SizeOf(*names, [](const RankName& name) { return name.first.value_or(0); });
  grid.second_size = SizeOf(*names, [](const RankName& name) { return name.second.value_or(0); });
  if (auto whole = CheckHoles(grid, *names, directory);
      !whole && !HasFewerExpertShards(grid, *names))
    return std::unexpected(std::move(whole).error());

  const std::string several = "several that differ in this number, which Megatron writes only then";
  if (grid.suffixes > 0 && grid.first_size == 1)
    return std::unexpected(
        Missing(directory, FormatRankName(0, 1, names->front().second), several));
  if (grid.suffixes > 1 && grid.second_size == 1)
    return std::unexpected(Missing(directory, FormatRankName(0, 0, 1), several));
  return grid;
}

std::optional<RankSizes> SizesOf(const RankGrid& grid, const Hints& hints) {
  if (grid.suffixes == 0) return RankSizes{.tp = grid.tp_size};
  if (grid.suffixes == 2)
    return RankSizes{.tp = grid.tp_size, .pp = grid.first_size, .ep = grid.second_size};
  const bool pipeline = HintOf(hints, kPpHint) > 1;
  const bool experts = HintOf(hints, kEpHint) > 1;
  if (pipeline == experts) return std::nullopt;
  return pipeline ? RankSizes{.tp = grid.tp_size, .pp = grid.first_size}
                  : RankSizes{.tp = grid.tp_size, .ep = grid.first_size};
}

Result<> CheckComplete(const RankGrid& grid, const Hints& hints, const std::string& directory) {
  const auto check = [&](std::string_view hint, uint32_t size, std::string next) -> Result<> {
    const int64_t said = HintOf(hints, hint);
    if (said <= int64_t{size}) return {};
    return std::unexpected(Missing(
        directory, next, fmt::format("{} = {}, as the args in the rank files say", hint, said)));
  };
  const auto first = grid.suffixes > 0 ? std::optional(0u) : std::nullopt;
  const auto second = grid.suffixes > 1 ? std::optional(0u) : std::nullopt;
  RESHARD_TRY(check(kTpHint, grid.tp_size, FormatRankName(grid.tp_size, first, second)));
  const auto sizes = SizesOf(grid, hints);
  if (sizes && sizes->pp > 1)
    RESHARD_TRY(check(kPpHint, sizes->pp, FormatRankName(0, sizes->pp, second)));
  if (sizes && sizes->ep > 1)
    RESHARD_TRY(check(kEpHint, sizes->ep,
                      second ? FormatRankName(0, 0, sizes->ep) : FormatRankName(0, sizes->ep)));
  return {};
}

}  // namespace reshard::megatron
