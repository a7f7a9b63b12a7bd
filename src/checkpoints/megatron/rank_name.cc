#include "checkpoints/megatron/rank_name.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <tuple>

namespace reshard::megatron {
namespace {

constexpr std::string_view kPrefix = "mp_rank_";
constexpr std::string_view kChunk = "model";
constexpr size_t kMaxDigits = 9;  // fits in 32 bits

// A number of `width` digits or more, as Python's :0{width}d writes it.
std::optional<uint32_t> ParseNumber(std::string_view text, size_t width) {
  if (text.size() < width || text.size() > kMaxDigits) return std::nullopt;
  if (text.size() > width && text[0] == '0') return std::nullopt;
  uint32_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::strong_ordering ByNumbers(const RankName& a, const RankName& b) {
  return std::tie(a.tp, a.first, a.second) <=> std::tie(b.tp, b.first, b.second);
}

std::optional<RankName> ParseRankName(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::string_view rest = name.substr(kPrefix.size());
  std::array<std::optional<uint32_t>, 3> numbers;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const size_t end = rest.find('_');
    numbers[i] = ParseNumber(rest.substr(0, end), i == 0 ? 2 : 3);
    if (!numbers[i]) return std::nullopt;
    if (end == std::string_view::npos)
      return RankName{std::string(name), *numbers[0], numbers[1], numbers[2]};
    rest.remove_prefix(end + 1);
  }
  return std::nullopt;
}

std::string FormatRankName(uint32_t tp, std::optional<uint32_t> first,
                           std::optional<uint32_t> second) {
  std::string name = fmt::format("{}{:02}", kPrefix, tp);
  for (const auto& suffix : {first, second})
    if (suffix) name += fmt::format("_{:03}", *suffix);
  return name;
}

std::string FormatRankName(const Rank& rank, const RankSizes& sizes) {
  const auto suffix = [](uint32_t number, uint32_t size) {
    return size > 1 ? std::optional(number) : std::nullopt;
  };
  return FormatRankName(rank.tp, suffix(rank.pp, sizes.pp), suffix(rank.ep, sizes.ep));
}

Rank RankOf(const RankName& name, const RankSizes& sizes) {
  const bool lone = name.first && !name.second;
  if (lone && sizes.pp <= 1) return {.tp = name.tp, .ep = *name.first};
  return {.tp = name.tp, .pp = name.first.value_or(0), .ep = name.second.value_or(0)};
}

std::optional<uint32_t> ParseChunk(std::string_view key) {
  if (!key.starts_with(kChunk)) return std::nullopt;
  key.remove_prefix(kChunk.size());
  return key.empty() ? 0 : ParseNumber(key, 1);
}

std::string FormatChunk(uint32_t index, uint32_t count) {
  return count == 1 ? std::string(kChunk) : fmt::format("{}{}", kChunk, index);
}

std::optional<TensorName> ParseTensorName(std::string_view name) {
  const size_t rank_end = name.find('/');
  if (rank_end == std::string_view::npos) return std::nullopt;
  const size_t chunk_end = name.find('/', rank_end + 1);
  if (chunk_end == std::string_view::npos) return std::nullopt;
  const TensorName parts{.rank = name.substr(0, rank_end),
                         .chunk = name.substr(rank_end + 1, chunk_end - rank_end - 1),
                         .key = name.substr(chunk_end + 1)};
  if (!ParseRankName(parts.rank) || !ParseChunk(parts.chunk)) return std::nullopt;
  return parts;
}

std::string FormatTensorName(const TensorName& name) {
  return fmt::format("{}/{}/{}", name.rank, name.chunk, name.key);
}

}  // namespace reshard::megatron
