#include "checkpoints/hub_cache.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "io/file.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kModels = "models--";
constexpr uint64_t kMaxRefBytes = 4096;

bool IsNameCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
}

bool IsName(std::string_view text) {
  return !text.empty() && std::isalnum(static_cast<unsigned char>(text[0])) &&
         std::ranges::all_of(text, IsNameCharacter);
}

fs::path CacheDirectory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return fs::path(value == nullptr ? "" : value);
  };
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"})
    if (fs::path cache = variable(name); !cache.empty()) return cache;
  if (const fs::path home = variable("HF_HOME"); !home.empty()) return home / "hub";
  if (const fs::path cache = variable("XDG_CACHE_HOME"); !cache.empty())
    return cache / "huggingface" / "hub";
  const fs::path home = variable("HOME");
  return home.empty() ? home : home / ".cache" / "huggingface" / "hub";
}

}  // namespace

bool IsHubRepository(const std::string& text) {
  const size_t slash = text.find('/');
  return slash != std::string::npos && IsName(text.substr(0, slash)) &&
         IsName(text.substr(slash + 1));
}

fs::path FindInHubCache(const std::string& repository) {
  const fs::path cache = CacheDirectory();
  if (cache.empty() || !IsHubRepository(repository)) return {};
  const size_t slash = repository.find('/');
  const fs::path folder =
      fmt::format("{}{}--{}", kModels, repository.substr(0, slash), repository.substr(slash + 1));
  // refs/main holds the commit that "main" was when it was downloaded last.
  auto commit = ReadTextFile(cache / folder / "refs" / "main", kMaxRefBytes);
  if (!commit) return {};
  while (!commit->empty() && std::isspace(static_cast<unsigned char>(commit->back())))
    commit->pop_back();
  std::error_code code;
  const fs::path snapshot = cache / folder / "snapshots" / *commit;
  return IsName(*commit) && fs::is_directory(snapshot, code) ? snapshot : fs::path();
}

std::string HubRepositoryOf(const fs::path& cached) {
  for (const fs::path& part : cached) {
    const std::string name = part.string();
    const size_t dashes = name.find("--", kModels.size());
    if (!name.starts_with(kModels) || dashes == std::string::npos) continue;
    const std::string organisation = name.substr(kModels.size(), dashes - kModels.size());
    const std::string repository = fmt::format("{}/{}", organisation, name.substr(dashes + 2));
    return IsHubRepository(repository) ? repository : std::string();
  }
  return {};
}

}  // namespace reshard
