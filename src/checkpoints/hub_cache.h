#ifndef RESHARD_CHECKPOINTS_HUB_CACHE_H_
#define RESHARD_CHECKPOINTS_HUB_CACHE_H_

#include <filesystem>
#include <string>

namespace reshard {

/// Whether a text has the form of a repository of the Hugging Face hub: "org/name".
bool IsHubRepository(const std::string& text);

/// The directory of this machine's cache of huggingface_hub that holds a repository's files; empty
/// where there is none. The cache lies where huggingface_hub looks for it (its constants.py): in
/// $HF_HUB_CACHE, $HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub.
std::filesystem::path FindInHubCache(const std::string& repository);

/// "org/name" of a path within the cache: ".../models--org--name/snapshots/..."; else empty.
std::string HubRepositoryOf(const std::filesystem::path& cached);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_HUB_CACHE_H_
