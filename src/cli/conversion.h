#ifndef RESHARD_CLI_CONVERSION_H_
#define RESHARD_CLI_CONVERSION_H_

#include <string>

#include "cli/request_options.h"
#include "reshard/convert.h"

namespace reshard::cli {

/// Prints the plan, or writes it as JSON to `file` where one is given.
Result<> ShowPlan(const ConvertRequest& request, const SayingOptions& saying,
                  const std::string& file);

/// Converts and says what was done. `plan_id`, where not empty, is what the plan must have.
Result<> ConvertAndReport(const ConvertRequest& request, const std::string& plan_id,
                          const RunOptions& options, const SayingOptions& saying);

}  // namespace reshard::cli

#endif  // RESHARD_CLI_CONVERSION_H_
