#ifndef RESHARD_FORMATS_DCP_NAME_TABLE_H_
#define RESHARD_FORMATS_DCP_NAME_TABLE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/endian.h"

namespace reshard::dcp {

/// Numbers texts in the order in which they are first seen.
class NameTable {
 public:
  uint32_t Number(std::string_view text) {
    // Ranks list the same tensors in the same order, and stay in one file for long: most texts are
    // the one that was seen last, or the one that followed it before.
    for (int guess = 0; guess < 2 && !texts_.empty(); ++guess, advancing_ = !advancing_) {
      const uint32_t next = last_ + 1 < texts_.size() ? last_ + 1 : 0;
      const uint32_t number = advancing_ ? next : last_;
      if (IsSame(texts_[number], text)) return last_ = number;
    }
    const auto found = numbers_.find(text);
    return last_ = found != numbers_.end() ? found->second : Add(text);
  }

  std::optional<uint32_t> Find(std::string_view text) const {
    const auto found = numbers_.find(text);
    if (found == numbers_.end()) return std::nullopt;
    return found->second;
  }

  const std::deque<std::string>& texts() const { return texts_; }

 private:
  // Word by word: `text` was copied a moment ago, and a wider load than those stores would have to
  // wait until they have left the processor's store buffer.
  static bool IsSame(std::string_view known, std::string_view text) {
    if (known.size() != text.size()) return false;
    size_t i = 0;
    for (; i + 8 <= text.size(); i += 8)
      if (LoadLittle<uint64_t>(known.data() + i) != LoadLittle<uint64_t>(text.data() + i))
        return false;
    for (; i < text.size(); ++i)
      if (known[i] != text[i]) return false;
    return true;
  }

  uint32_t Add(std::string_view text) {
    const auto number = static_cast<uint32_t>(texts_.size());
    numbers_.emplace(texts_.emplace_back(text), number);
    return number;
  }

  std::deque<std::string> texts_;
  std::unordered_map<std::string_view, uint32_t> numbers_;
  uint32_t last_ = 0;
  bool advancing_ = false;  // which guess was right the last time
};

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_NAME_TABLE_H_
