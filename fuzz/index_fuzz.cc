// Any text as an index of weights: no file that it names lies outside its directory.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "checkpoints/hf/hf_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto map = reshard::ParseWeightMap(text, "model.safetensors.index.json");
  if (!map) return 0;
  for (const auto& [tensor, file] : *map) {
    const std::filesystem::path path = std::filesystem::path(file).lexically_normal();
    if (path.empty() || path.is_absolute() || *path.begin() == "..") std::abort();
  }
  return 0;
}
