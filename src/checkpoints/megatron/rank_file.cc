#include "checkpoints/megatron/rank_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "base/try.h"
#include "checkpoints/megatron/rank_name.h"

namespace reshard::megatron {
namespace {

using pickle::DictEntry;
using pickle::Kind;
using pickle::Value;

constexpr std::string_view kExpectedFile =
    "what Megatron saves: a dictionary with 'model', or 'model0', 'model1' and so on";

std::unexpected<Error> BadFile(const std::string& file, std::string found,
                               std::string expected = std::string(kExpectedFile)) {
  return std::unexpected(Error{.kind = ErrorKind::kSource,
                               .file = file,
                               .found = std::move(found),
                               .expected = std::move(expected),
                               .help = "check which program wrote this file"});
}

constexpr size_t kMaxSettingText = 64;  // a path is no setting

// An integer that is a value's whole meaning.
std::optional<int64_t> Whole(const Value& value) {
  if (value.is(Kind::kInt)) return value.as_int();
  if (value.is(Kind::kBool)) return value.as_bool() ? 1 : 0;
  return std::nullopt;
}

// The version is 3.0 in files of today.
std::optional<int64_t> WholeVersion(const Value& value) {
  constexpr double kMax = 1e6;
  if (!value.is(Kind::kFloat)) return Whole(value);
  const double number = value.as_float();
  if (!(std::abs(number) <= kMax) || std::trunc(number) != number) return std::nullopt;
  return static_cast<int64_t>(number);
}

// The attributes of an object that is made of a class and a state.
std::span<const DictEntry> AttributesOf(const Value& value) {
  if (value.is(Kind::kDict)) return value.entries();
  if (!value.is(Kind::kObject) || !value.object().state.is(Kind::kDict)) return {};
  return value.object().state.entries();
}

Hints HintsOf(const Value& root) {
  Hints hints;
  if (const Value* args = root.Find("args"))
    for (const auto& [name, value] : AttributesOf(*args)) {
      if (!name.is(Kind::kString)) continue;
      if (const auto number = Whole(value))
        hints[std::string(name.text())] = *number;
      else if (value.is(Kind::kString) && value.text().size() <= kMaxSettingText)
        hints[fmt::format("{}.{}", name.text(), value.text())] = 1;
    }
  // Megatron-LM has a number of groups for a model that has none, too.
  if (const auto grouped = hints.find("group_query_attention");
      grouped != hints.end() && grouped->second == 0)
    hints.erase("num_query_groups");
  const auto put = [&](std::string_view name, std::optional<int64_t> number) {
    if (number) hints[std::string(name)] = *number;
  };
  if (const Value* iteration = root.Find("iteration")) put("iteration", Whole(*iteration));
  if (const Value* version = root.Find("checkpoint_version"))
    put("checkpoint_version", WholeVersion(*version));
  return hints;
}

// The number of chunks, from the keys of the dictionary.
Result<uint32_t> CountChunks(const Value& root, const std::string& file) {
  bool alone = false;
  std::vector<uint32_t> numbers;
  for (const DictEntry& entry : root.entries()) {
    if (!entry.key.is(Kind::kString)) continue;
    const auto number = ParseChunk(entry.key.text());
    if (!number) continue;
    if (entry.key.text() == FormatChunk(0, 1))
      alone = true;
    else
      numbers.push_back(*number);
  }
  if (!alone && numbers.empty()) return BadFile(file, "there is no 'model' in this dictionary");
  if (numbers.empty()) return 1;
  if (alone)
    return BadFile(file, fmt::format("there are both 'model' and 'model{}'", numbers.front()));
  std::ranges::sort(numbers);
  for (uint32_t i = 0; i < numbers.size(); ++i)
    if (numbers[i] != i)
      return BadFile(file, fmt::format("there is 'model{}' but no 'model{}'", numbers.back(), i),
                     "one for each number, each once");
  return static_cast<uint32_t>(numbers.size());
}

// A chunk that flattening took for a leaf is no dictionary.
template <typename Leaf>
Result<> CheckChunks(const std::vector<Leaf>& leaves, const std::string& file) {
  for (const Leaf& leaf : leaves)
    if (leaf.path.size() == 1 && ParseChunk(leaf.name)) {
      auto error =
          BadFile(file, fmt::format("'{}' is no dictionary", leaf.name), "a dictionary of tensors");
      error.error().tensor = leaf.name;
      return error;
    }
  return {};
}

}  // namespace

Result<RankFile> DecodeRankFile(const ByteSource& file) {
  RankFile rank;
  const auto look = [&](const Value& root) -> Result<> {
    if (!root.is(Kind::kDict)) return BadFile(file.name(), "this file holds no dictionary");
    RESHARD_ASSIGN(rank.chunks, CountChunks(root, file.name()));
    rank.hints = HintsOf(root);
    return {};
  };
  RESHARD_ASSIGN(rank.archive, torch_save::DecodeFile(file, look));
  RESHARD_TRY(CheckChunks(rank.archive.tensors, file.name()));
  RESHARD_TRY(CheckChunks(rank.archive.unreadable, file.name()));
  RESHARD_TRY(CheckChunks(rank.archive.objects, file.name()));
  return rank;
}

std::optional<std::string_view> KeyInModel(const torch_save::Path& path, std::string_view name) {
  const auto* top = path.empty() ? nullptr : std::get_if<std::string>(&path[0]);
  if (!top || path.size() < 2 || !ParseChunk(*top)) return std::nullopt;
  return name.substr(top->size() + 1);
}

}  // namespace reshard::megatron
