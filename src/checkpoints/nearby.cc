#include "checkpoints/nearby.h"

#include <algorithm>
#include <string_view>

#include "base/try.h"
#include "checkpoints/dcp/dcp_source.h"
#include "checkpoints/hf/hf_source.h"
#include "checkpoints/megatron/megatron_source.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// How deep, and among how many entries, checkpoints are looked for to name them in an error.
constexpr int kSuggestDepth = 3;
constexpr size_t kMaxSuggestEntries = 2000;
constexpr size_t kMaxSuggestions = 5;

// What accelerate and others call the directory of the optimizer, "optimizer_0" beside
// "pytorch_model_fsdp_0".
constexpr std::string_view kOptimizer = "optimizer";

bool IsOptimizers(const std::string& path) {
  return fs::path(path).filename().string().starts_with(kOptimizer);
}

}  // namespace

Result<bool> HoldsCheckpoint(const fs::path& directory) {
  RESHARD_ASSIGN(const std::vector<std::string> metadata, FindDcpMetadata(directory));
  RESHARD_ASSIGN(const bool ranks, HoldsMegatronRanks(directory));
  if (!metadata.empty() || ranks) return true;
  const auto files = FindHfFiles(directory);
  return files && !files->names.empty();
}

std::vector<std::string> CheckpointsBelow(const fs::path& directory) {
  std::vector<std::string> found;
  std::error_code code;
  size_t seen = 0;
  fs::recursive_directory_iterator at(directory, fs::directory_options::skip_permission_denied,
                                      code);
  for (; !code && at != fs::recursive_directory_iterator() && ++seen < kMaxSuggestEntries;
       at.increment(code)) {
    if (!at->is_directory(code)) continue;
    if (at.depth() >= kSuggestDepth) at.disable_recursion_pending();
    if (!HoldsCheckpoint(at->path()).value_or(false)) continue;
    found.push_back(at->path().string());
    at.disable_recursion_pending();
  }
  std::ranges::sort(found);
  const auto model = std::ranges::stable_partition(
      found, [](const std::string& path) { return !IsOptimizers(path); });
  if (model.begin() != found.begin()) found.erase(model.begin(), found.end());
  if (found.size() > kMaxSuggestions) found.resize(kMaxSuggestions);
  return found;
}

}  // namespace reshard
