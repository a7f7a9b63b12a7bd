#ifndef RESHARD_API_EARLIER_OUTPUT_H_
#define RESHARD_API_EARLIER_OUTPUT_H_

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "engine/journal.h"
#include "plan/plan_data.h"
#include "reshard/catalog.h"

namespace reshard {

/// The names of all files of an output, its manifest included.
std::set<std::string> FilesOf(const Plan& plan);

/// Whether `destination` is a whole output of the plan: its manifest names the plan, and the plan's
/// files lie there at their sizes, and nothing else. That does not say of which source: one with the
/// same tensors has the same plan.
bool IsOutputOf(const Plan& plan, const std::filesystem::path& destination);

/// Whether the manifest of `destination` has the checksums with which `journal` says that the plan's
/// files were finished.
bool HasSumsOf(const Journal& journal, const Plan& plan, const std::filesystem::path& destination);

/// Whether none of these files has been touched since the manifest of `destination` was written.
bool IsNewerThan(const std::filesystem::path& root, const std::vector<SourceFile>& files,
                 const std::filesystem::path& destination);

}  // namespace reshard

#endif  // RESHARD_API_EARLIER_OUTPUT_H_
