#ifndef RESHARD_API_INPUTS_H_
#define RESHARD_API_INPUTS_H_

#include <string>
#include <vector>

#include "plan/plan_data.h"
#include "reshard/catalog.h"
#include "reshard/request.h"
#include "reshard/source.h"

namespace reshard {

/// The files that decide an output beside those of the source's catalog, as they are now; by whole
/// path or as they were named. To be called before any of them is read: indexes, weights of what the
/// output is to be like, recipes, what the request was read from.
std::vector<SourceFile> FindInputs(const ConvertRequest& request);

/// Adds config.json, wherever that of the model may be taken from. To be called before it is read.
void AddConfigs(const ConvertRequest& request, const Source& source,
                std::vector<SourceFile>* inputs);

/// The plan is made: its assets are from the directory `assets`, and of no other a config.json counts.
/// Adds the files that it copies; to be called before they are read.
void SettleInputs(const Plan& plan, const std::string& assets, std::vector<SourceFile>* inputs);

/// Looks again at all files that an output was made from. One that has changed since, while it was
/// read or before, is an error of kind kSource: what was written may be half of the one state and
/// half of the other.
Result<> CheckUnchanged(const Source& source, const std::vector<SourceFile>& inputs);

/// An error where the directory that is to be written holds what is in use: the source, its files,
/// wherever links lead, all inputs, the directories that the request names, the current directory.
/// Errors are of kind kUsage, or kDestination where it cannot
/// be told.
Result<> CheckNotInUse(const ConvertRequest& request, const Source& source,
                       const std::vector<SourceFile>& inputs);

}  // namespace reshard

#endif  // RESHARD_API_INPUTS_H_
