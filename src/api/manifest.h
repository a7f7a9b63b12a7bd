#ifndef RESHARD_API_MANIFEST_H_
#define RESHARD_API_MANIFEST_H_

#include <filesystem>
#include <string>
#include <vector>

#include "engine/checksum.h"
#include "io/staged_output.h"
#include "plan/plan_data.h"
#include "reshard/error.h"
#include "reshard/reporter.h"
#include "reshard/request.h"

namespace reshard {

inline constexpr std::string_view kManifestName = "reshard-manifest.json";
inline constexpr uint64_t kMaxManifestBytes = uint64_t{112} << 20;  // of an output of 16 TB

/// The parts of a request that decide the output's bytes, without any path, as canonical JSON.
std::string RequestJson(const ConvertRequest& request);

/// The text of the manifest: what was asked, by what, and the size and checksums of each file. No
/// paths, no times: the same input gives the same bytes.
std::string WriteManifest(const ConvertRequest& request, const Plan& plan,
                          const std::string& recipe_text, const std::vector<FileChecksum>& sums);

/// Warns where an output is going to replace what reshard has not written: no manifest lies there.
void WarnOfReplacing(const StagedOutput& output, const std::filesystem::path& destination,
                     Reporter& reporter);

/// A file as the manifest lists it.
struct ManifestFile {
  std::string path;
  FileChecksum sum;
};

/// The plan_id of a manifest; empty where it is none.
std::string PlanIdOf(const std::string& json);

/// Reads a manifest. Errors are of kind kSource and name `file`.
Result<std::vector<ManifestFile>> ReadManifest(const std::string& json, const std::string& file);

}  // namespace reshard

#endif  // RESHARD_API_MANIFEST_H_
