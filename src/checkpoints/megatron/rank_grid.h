#ifndef RESHARD_CHECKPOINTS_MEGATRON_RANK_GRID_H_
#define RESHARD_CHECKPOINTS_MEGATRON_RANK_GRID_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoints/megatron/rank_name.h"
#include "reshard/error.h"

namespace reshard::megatron {

/// Numbers that a checkpoint says about itself, by Megatron's names for them: see Source::hints.
using Hints = std::map<std::string, int64_t>;

inline constexpr std::string_view kTpHint = "tensor_model_parallel_size";
inline constexpr std::string_view kPpHint = "pipeline_model_parallel_size";
inline constexpr std::string_view kVppHint = "virtual_pipeline_model_parallel_size";
inline constexpr std::string_view kEpHint = "expert_model_parallel_size";

/// The ranks of a checkpoint: every combination of the numbers below its sizes, once.
struct RankGrid {
  int suffixes = 0;  ///< of each name: 0, 1 or 2
  uint32_t tp_size = 1;
  uint32_t first_size = 1;   ///< of the first suffix, 1 without one
  uint32_t second_size = 1;  ///< of the second suffix, 1 without one
};

/// The grid that the names of rank directories make; sorts them by number. At least one is needed.
///
/// Errors are of kind kSource, with `directory` as the file: names with different numbers of
/// suffixes, a hole (the first missing directory is named), a suffix that counts to one only, which
/// Megatron leaves out.
Result<RankGrid> MakeGrid(std::vector<RankName>* names, const std::string& directory);

/// The sizes along each axis. What a lone suffix counts is taken from the hints: whichever of
/// pipeline and expert parallelism has a size above one there. Nothing where that is not one of the
/// two.
std::optional<RankSizes> SizesOf(const RankGrid& grid, const Hints& hints);

/// An error of kind kSource that names the first missing directory where the hints say that there
/// are more ranks than the grid has: it cannot be told from the names alone that the last are gone.
/// An axis that the names do not have is not looked at: with several ranks along it they would.
Result<> CheckComplete(const RankGrid& grid, const Hints& hints, const std::string& directory);

}  // namespace reshard::megatron

#endif  // RESHARD_CHECKPOINTS_MEGATRON_RANK_GRID_H_
