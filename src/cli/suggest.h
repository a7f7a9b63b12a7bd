#ifndef RESHARD_CLI_SUGGEST_H_
#define RESHARD_CLI_SUGGEST_H_

#include <CLI/CLI.hpp>
#include <string>

namespace reshard::cli {

/// The last of the subcommands that were parsed, or `app` itself.
const CLI::App& Innermost(const CLI::App& app);

/// As a user calls it: "reshard recipe show".
std::string FullName(const CLI::App& app);

/// What is wrong with the arguments that `app` did not take, and what may have been meant instead.
struct Unknown {
  std::string found;
  std::string expected;  ///< empty where nothing is near
};
Unknown DescribeUnknown(const CLI::App& app);

}  // namespace reshard::cli

#endif  // RESHARD_CLI_SUGGEST_H_
