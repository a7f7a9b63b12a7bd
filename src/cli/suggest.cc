#include "cli/suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "base/nearest.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

// Names in the order of --help, without those that it does not show.
std::vector<std::string> SubcommandNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

// What other programs call it, too far from our word for a misspelling.
struct Synonym {
  std::string_view theirs;
  std::string_view ours;
};
constexpr std::array kSynonyms = {
    Synonym{"--target", "--to"},
    Synonym{"--format", "--to"},
    Synonym{"--output-format", "--to"},
    Synonym{"--torch-dtype", "--dtype"},
    Synonym{"--overwrite", "--force"},
    Synonym{"--workers", "--jobs"},
    Synonym{"--num-workers", "--jobs"},
    Synonym{"-j", "--jobs"},
    Synonym{"--tensor-parallel-size", "--tp"},
    Synonym{"--pipeline-parallel-size", "--pp"},
    Synonym{"--tokenizer", "--assets-from"},
    Synonym{"--config", "--assets-from"},
    Synonym{"--src", "SRC, the first argument without a dash"},
    Synonym{"--source", "SRC, the first argument without a dash"},
    Synonym{"--input", "SRC, the first argument without a dash"},
    Synonym{"--model", "SRC, the first argument without a dash"},
    Synonym{"-i", "SRC, the first argument without a dash"},
    Synonym{"--dst", "DST, the second argument without a dash"},
    Synonym{"--dest", "DST, the second argument without a dash"},
    Synonym{"--output", "DST, the second argument without a dash"},
    Synonym{"--output-dir", "DST, the second argument without a dash"},
    Synonym{"--out", "DST, the second argument without a dash"},
    Synonym{"-o", "DST, the second argument without a dash"}};

// Our word for it, where the command has one.
std::string OurWord(std::string_view theirs, const CLI::App& at) {
  const auto synonym = std::ranges::find(kSynonyms, theirs, &Synonym::theirs);
  if (synonym == kSynonyms.end()) return {};
  const std::string ours(synonym->ours);
  const std::string name = ours.starts_with('-') ? ours : ours.substr(0, 3);
  return at.get_option_no_throw(name) != nullptr ? ours : std::string();
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
  const std::string word = argument.substr(0, argument.find('='));
  std::string nearest = OurWord(word, at);
  if (nearest.empty()) nearest = Nearest(word, known);
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
