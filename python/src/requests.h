#ifndef RESHARD_PYTHON_REQUESTS_H_
#define RESHARD_PYTHON_REQUESTS_H_

#include <nanobind/nanobind.h>

#include <string>
#include <utility>
#include <vector>

#include "reshard/convert.h"

namespace reshard::python {

/// A request as the names of the command line's flags, without dashes in front, and their texts.
/// Those that may be given there more than once may be here.
using RequestFields = std::vector<std::pair<std::string, std::string>>;

/// Errors are of kind kUsage.
Result<ConvertRequest> ToRequest(const RequestFields& fields);

nanobind::dict SummaryDict(const PlanSummary& summary);
nanobind::dict ConvertDict(const ConvertSummary& summary);

}  // namespace reshard::python

#endif  // RESHARD_PYTHON_REQUESTS_H_
