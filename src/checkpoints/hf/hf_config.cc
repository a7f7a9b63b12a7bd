#include "checkpoints/hf/hf_config.h"

#include "base/try.h"
#include "io/directory.h"
#include "io/file.h"

namespace reshard {

constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

Result<ModelConfig> ReadModelConfig(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / "config.json";
  RESHARD_ASSIGN(const PathKind kind, KindAt(file));
  if (kind == PathKind::kNothing) return ModelConfig();
  RESHARD_ASSIGN(const std::string json, ReadTextFile(file, kMaxConfigBytes));
  return ModelConfig::Parse(json, file.string());
}

}  // namespace reshard
