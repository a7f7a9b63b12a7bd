#ifndef RESHARD_CLI_COMMANDS_H_
#define RESHARD_CLI_COMMANDS_H_

#include <functional>
#include <span>

#include <CLI/CLI.hpp>

#include "reshard/error.h"

namespace reshard::cli {

/// A subcommand: declares its options and says what to run once they are parsed.
struct Command {
  const char* name;
  const char* description;
  /// Adds options to `app`; the returned function runs the command.
  std::function<Result<>()> (*declare)(CLI::App& app);
};

std::function<Result<>()> DeclareConvert(CLI::App& app);
std::function<Result<>()> DeclareInspect(CLI::App& app);
std::function<Result<>()> DeclareMerge(CLI::App& app);
std::function<Result<>()> DeclareMmConvert(CLI::App& app);
std::function<Result<>()> DeclarePlan(CLI::App& app);
std::function<Result<>()> DeclareRecipe(CLI::App& app);
std::function<Result<>()> DeclareVerify(CLI::App& app);

}  // namespace reshard::cli

#endif  // RESHARD_CLI_COMMANDS_H_
