#ifndef RESHARD_RECIPE_INDEX_TEXT_H_
#define RESHARD_RECIPE_INDEX_TEXT_H_

#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace reshard {

/// The number of a layer or an expert in a name: from 0 on, below 2^31, written the only way that
/// counting writes it, without a sign and without leading zeros.
inline std::optional<int64_t> ParseIndex(std::string_view text) {
  int64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool plain = !text.starts_with('-') && (text.size() == 1 || !text.starts_with('0'));
  if (code != std::errc() || end != text.data() + text.size() || !plain ||
      number > std::numeric_limits<int32_t>::max())
    return std::nullopt;
  return number;
}

}  // namespace reshard

#endif  // RESHARD_RECIPE_INDEX_TEXT_H_
