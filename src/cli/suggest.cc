#include "cli/suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "cli/nearest.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

// Names in the order of --help, without those that it does not show.
std::vector<std::string> SubcommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

}  // namespace

const CLI::App& Innermost(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().back();
  return *at;
}

std::string FullName(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return parent == nullptr ? app.get_name() : FullName(*parent) + " " + app.get_name();
}

Unknown DescribeUnknown(const CLI::App& app) {
  const CLI::App& at = Innermost(app);
  const std::vector<std::string> left = app.remaining(true);
  const std::vector<std::string> subcommands = SubcommandNames(at);
  const auto option = std::ranges::find_if(
      left, [](const std::string& argument) { return argument.starts_with('-'); });
  // Where a subcommand is missing, what stands in its place is at fault, not the options behind it.
  const bool is_option = option != left.end() && (subcommands.empty() || option == left.begin());
  const std::string argument = is_option ? *option : left.empty() ? "" : left.front();

  std::vector<std::string> known = subcommands;
  for (const CLI::Option* candidate : at.get_options())
    for (const std::string& long_name : candidate->get_lnames()) known.push_back("--" + long_name);
  Unknown unknown{.found = fmt::format("'{}' is not known here", Printable(argument))};
  const std::string nearest = Nearest(argument.substr(0, argument.find('=')), known);
  const std::string all = is_option || subcommands.empty()
                              ? ""
                              : fmt::format("one of {}", fmt::join(subcommands, ", "));
  if (nearest.empty())
    unknown.expected = all;
  else
    unknown.expected = fmt::format("perhaps {}{}{}", nearest, all.empty() ? "" : "; ", all);
  return unknown;
}

}  // namespace reshard::cli
