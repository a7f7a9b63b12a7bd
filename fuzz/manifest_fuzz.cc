// Any text as a manifest: no file that it lists lies outside its directory.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "api/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto files = reshard::ReadManifest(text, "reshard-manifest.json");
  if (!files) return 0;
  for (const reshard::ManifestFile& file : *files) {
    const std::filesystem::path path = std::filesystem::path(file.path).lexically_normal();
    if (path.empty() || path.is_absolute() || *path.begin() == "..") std::abort();
  }
  return 0;
}
