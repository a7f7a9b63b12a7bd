#include <algorithm>
#include <cstdio>
#include <exception>
#include <span>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/output.h"
#include "cli/suggest.h"
#include "reshard/convert.h"

namespace reshard::cli {
namespace {

constexpr Command kCommands[] = {
    {"inspect", "show what a checkpoint holds", DeclareInspect},
    {"plan", "show what convert would write", DeclarePlan},
    {"convert", "write a checkpoint in another layout", DeclareConvert},
    {"verify", "check an output against its manifest", DeclareVerify},
    {"recipe", "list, show and check recipes", DeclareRecipe},
    {"merge-dcp-to-hf", "stand-in for VeOmni's merge_dcp_to_hf.py", DeclareMerge},
    {"mm-convert", "stand-in for MindSpeed-MM's mm-convert", DeclareMmConvert},
};

constexpr const char* kFooter =
    "Examples:\n"
    "  reshard inspect checkpoints/step-1000\n"
    "  reshard convert checkpoints/step-1000 my-model-hf --to hf --dtype bfloat16\n"
    "  reshard verify my-model-hf\n\n"
    "Exit codes: 0 done, 1 the answer is no, 2 usage, 3 source unreadable or corrupt,\n"
    "4 the mapping does not fit, 5 destination, 6 stopped part-way, 70 a defect of ours,\n"
    "130 interrupted. After a failed or interrupted run, the same command keeps the files that\n"
    "were finished.";

// "reshard help convert" is "reshard convert --help".
std::vector<std::string> Arguments(std::span<char*> given) {
  std::vector<std::string> arguments(given.begin(), given.end());
  if (arguments.size() < 2 || arguments[1] != "help") return arguments;
  arguments.erase(arguments.begin() + 1);
  arguments.emplace_back("--help");
  return arguments;
}

int Run(int argc, char** argv) {
  CLI::App app("Turns a checkpoint of a large model in one layout into the same checkpoint in "
               "another.",
               "reshard");
  app.set_version_flag("-V,--version", fmt::format("reshard {}", Version()), "show the version");
  app.set_help_flag("-h,--help", "show this help");
  app.footer(kFooter);
  app.require_subcommand(1);
  std::function<Result<>()> chosen;
  for (const Command& command : kCommands) {
    CLI::App* sub = app.add_subcommand(command.name, command.description);
    std::function<Result<>()> run = command.declare(*sub);
    sub->callback([&chosen, run = std::move(run)] { chosen = run; });
  }
  if (argc == 1) {
    Say(app.help());
    return ExitCode(ErrorKind::kUsage);
  }
  try {
    std::vector<std::string> arguments = Arguments(std::span(argv, static_cast<size_t>(argc)));
    arguments.erase(arguments.begin());
    std::ranges::reverse(arguments);  // CLI11 takes the last one first.
    app.parse(std::move(arguments));
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::ParseError& fault) {
    // A subcommand is also missing where its name was misspelt.
    const Unknown what = !app.remaining(true).empty() ? DescribeUnknown(app) : Unknown{.found = fault.what()};
    PrintError({.kind = ErrorKind::kUsage,
                .found = what.found,
                .expected = what.expected,
                .help = FullName(Innermost(app)) + " --help"});
    return ExitCode(ErrorKind::kUsage);
  }
  CatchInterrupts();
  const Result<> done = chosen();
  if (std::fflush(stdout) != 0 && done)
    return ExitCode(ErrorKind::kDestination);  // Nobody reads what was printed.
  if (done) return 0;
  PrintError(done.error());
  const std::span arguments(argv, static_cast<size_t>(argc));
  if (std::ranges::find(arguments, std::string_view("--json")) != arguments.end())
    Print(ErrorJson(done.error()) + "\n");
  return ExitCode(done.error().kind);
}

}  // namespace
}  // namespace reshard::cli

int main(int argc, char** argv) {
  try {
    return reshard::cli::Run(argc, argv);
  } catch (const std::bad_alloc&) {
    reshard::cli::PrintError({.kind = reshard::ErrorKind::kPartial,
                              .found = "there is not enough memory",
                              .help = "free some, or lower --jobs"});
    return reshard::ExitCode(reshard::ErrorKind::kPartial);
  } catch (const std::exception& fault) {
    reshard::cli::PrintError({.kind = reshard::ErrorKind::kInternal,
                              .found = fault.what(),
                              .help = "this is a defect of reshard: please report it"});
    return reshard::ExitCode(reshard::ErrorKind::kInternal);
  }
}
