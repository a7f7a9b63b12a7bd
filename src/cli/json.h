#ifndef RESHARD_CLI_JSON_H_
#define RESHARD_CLI_JSON_H_

#include <string>
#include <string_view>

#include "reshard/convert.h"
#include "reshard/recipe_fit.h"

namespace reshard::cli {

// What --json prints, one JSON object each, with "message_type" first: docs/json.md.

std::string ProgressJson(const Progress& progress);
std::string WarningJson(std::string_view text);
std::string ErrorJson(const Error& error);
std::string SummaryJson(const ConvertSummary& summary);
std::string VerifyJson(const VerifyReport& report);
std::string RecipeFitJson(const RecipeFit& fit);
std::string InspectJson(const Source& source, const std::vector<const Tensor*>& tensors,
                        bool with_tensors);

}  // namespace reshard::cli

#endif  // RESHARD_CLI_JSON_H_
