#ifndef RESHARD_CHECKPOINTS_HF_HF_INDEX_H_
#define RESHARD_CHECKPOINTS_HF_HF_INDEX_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "reshard/error.h"

namespace reshard {

/// The `weight_map` of an index file: which file, relative to the index, holds each tensor; it may lie
/// in a directory below. Of a name that stands twice the last one counts, as in Python. Errors are of
/// kind kSource: no such map, a path that leads out of the directory or holds a NUL.
Result<std::map<std::string, std::string>> ReadWeightMap(const std::filesystem::path& index);

/// The same of an index's text; errors name `index`.
Result<std::map<std::string, std::string>> ParseWeightMap(std::string_view text,
                                                          const std::string& index);

/// The text of an index file, byte for byte what json.dumps(indent=2, sort_keys=True) and a newline
/// give. `total_size` counts bytes of tensors.
std::string WriteWeightMap(uint64_t total_size,
                           const std::map<std::string, std::string>& weight_map);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_HF_HF_INDEX_H_
