#ifndef RESHARD_CLI_SUGGEST_H_
#define RESHARD_CLI_SUGGEST_H_

#include <string>

#include <CLI/CLI.hpp>

namespace reshard::cli {

/// What is wrong with the arguments that `app` did not take, and what may have been meant instead.
struct Unknown {
  std::string found;
  std::string expected;  ///< empty where nothing is near
};
Unknown DescribeUnknown(const CLI::App& app);

}  // namespace reshard::cli

#endif  // RESHARD_CLI_SUGGEST_H_
