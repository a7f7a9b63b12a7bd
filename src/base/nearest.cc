#include "base/nearest.h"

#include <algorithm>
#include <numeric>

namespace reshard {
namespace {

// Changes of one character that turn `a` into `b` (Levenshtein).
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Nearest(std::string_view name, const std::vector<std::string>& known) {
  // Of a short name nothing would be left after that many changes.
  const size_t most = std::min<size_t>(3, name.size() / 2);
  const auto nearest = std::ranges::min_element(
      known, {}, [&](const std::string& candidate) { return Distance(name, candidate); });
  return nearest != known.end() && Distance(name, *nearest) <= most ? *nearest : std::string();
}

}  // namespace reshard
