#include "cli/suggest.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "reshard/text.h"

namespace reshard::cli {
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

Unknown DescribeUnknown(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining(true);
  const auto option = std::ranges::find_if(
      left, [](const std::string& argument) { return argument.starts_with('-'); });
  const std::string argument = option != left.end() ? *option : left.empty() ? "" : left.front();
  const std::string name = argument.substr(0, argument.find('='));

  std::vector<std::string> known;
  const CLI::App* at = &app;
  for (const CLI::App* sub : app.get_subcommands()) at = sub;
  for (const CLI::App* sub : at->get_subcommands({})) known.push_back(sub->get_name());
  for (const CLI::Option* candidate : at->get_options())
    for (const std::string& long_name : candidate->get_lnames()) known.push_back("--" + long_name);

  Unknown unknown{.found = fmt::format("'{}' is not known here", Printable(argument))};
  const auto nearest = std::ranges::min_element(
      known, {}, [&](const std::string& candidate) { return Distance(name, candidate); });
  // Of a short name nothing would be left after that many changes.
  const size_t most = std::min<size_t>(3, name.size() / 2);
  if (nearest != known.end() && Distance(name, *nearest) <= most)
    unknown.expected = fmt::format("perhaps {}", *nearest);
  return unknown;
}

}  // namespace reshard::cli
