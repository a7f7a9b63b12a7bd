#include "api/earlier_output.h"

#include <algorithm>

#include "api/manifest.h"
#include "io/file.h"
#include "io/output_directory.h"

namespace reshard {
namespace fs = std::filesystem;

std::set<std::string> FilesOf(const Plan& plan) {
  std::set<std::string> files = {std::string(kManifestName)};
  for (const FilePlan& file : plan.files) files.insert(file.path);
  return files;
}

bool IsOutputOf(const Plan& plan, const fs::path& destination) {
  const auto directory = OutputDirectory::Open(destination);
  const auto manifest = ReadTextFile(destination / kManifestName, kMaxManifestBytes);
  if (!directory || !manifest || PlanIdOf(*manifest) != plan.summary.plan_id) return false;
  const bool all_there = std::ranges::all_of(plan.files, [&](const FilePlan& file) {
    const auto found = directory->OpenToRead(file.path);
    return found && (*found)->size() == file.size;
  });
  const auto stranger = FindStranger(*directory, FilesOf(plan));
  return all_there && stranger && stranger->empty();
}

bool HasSumsOf(const Journal& journal, const Plan& plan, const fs::path& destination) {
  const fs::path path = destination / kManifestName;
  const auto text = ReadTextFile(path, kMaxManifestBytes);
  if (!text) return false;
  const auto files = ReadManifest(*text, path.string());
  return files && files->size() == plan.files.size() &&
         std::ranges::all_of(*files, [&](const ManifestFile& file) {
           const std::string* const root = journal.Find(file.path);
           return root && *root == file.sum.Root();
         });
}

bool IsNewerThan(const fs::path& root, const std::vector<SourceFile>& files,
                 const fs::path& destination) {
  const auto manifest = StatFile(destination, std::string(kManifestName));
  return manifest && std::ranges::all_of(files, [&](const SourceFile& file) {
           const auto changed = LastChange(root / file.path);
           return changed && *changed <= manifest->mtime_ns;
         });
}

}  // namespace reshard
