#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <new>
#include <span>
#include <sstream>
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
    std::ostringstream text;
    app.exit(success, text, text);
    Print(text.str());
    return 0;
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
  if (done) return 0;
  PrintError(done.error());
  const std::span arguments(argv, static_cast<size_t>(argc));
  if (std::ranges::find(arguments, std::string_view("--json")) != arguments.end())
    Print(ErrorJson(done.error()) + "\n");
  return ExitCode(done.error().kind);
}

// Where standard input, output or error is closed, the first files that the program opens would get
// their numbers: what is printed would be written into a checkpoint.
void KeepStandardDescriptors() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(number, F_GETFD) < 0) ::open("/dev/null", O_RDONLY);  // gets the lowest number
}

// What the command has come to, once its output is where it belongs.
int Finish(int code) {
  const int error_number = FlushOutput();
  // A reader that has gone, as `head` does, has what it wanted.
  if (error_number == 0 || error_number == EPIPE || code != 0) return code;
  PrintError({.kind = ErrorKind::kDestination,
              .found = fmt::format("standard output cannot be written: {}",
                                   std::strerror(error_number)),
              .help = "free some space where it leads, or send it elsewhere"});
  return ExitCode(ErrorKind::kDestination);
}

int RunAndFinish(int argc, char** argv) {
  try {
    return Finish(Run(argc, argv));
  } catch (const std::bad_alloc&) {
    // Nothing here may allocate.
    Say("error[partial]: there is not enough memory\n"
        "  help      free some, or lower --jobs and --memory, and run the same command again\n");
    return ExitCode(ErrorKind::kPartial);
  } catch (const std::exception& fault) {
    PrintError({.kind = ErrorKind::kInternal,
                .found = fault.what(),
                .help = "this is a defect of reshard: please report it"});
    return ExitCode(ErrorKind::kInternal);
  }
}

}  // namespace
}  // namespace reshard::cli

int main(int argc, char** argv) {
  reshard::cli::KeepStandardDescriptors();
  try {
    return reshard::cli::RunAndFinish(argc, argv);
  } catch (const std::bad_alloc&) {
    return reshard::ExitCode(reshard::ErrorKind::kPartial);  // not even enough to say why
  }
}
