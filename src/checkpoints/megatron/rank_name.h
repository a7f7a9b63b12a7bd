#ifndef RESHARD_CHECKPOINTS_MEGATRON_RANK_NAME_H_
#define RESHARD_CHECKPOINTS_MEGATRON_RANK_NAME_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// The names in a Megatron checkpoint: of its rank directories (get_checkpoint_name in
/// Megatron-LM's megatron/training/checkpointing.py), of the model chunks in a rank's file, and of
/// the tensors in the catalog, which are made of the two.
namespace reshard::megatron {

/// `mp_rank_TT`, `mp_rank_TT_NNN` or `mp_rank_TT_NNN_NNN`. Two suffixes are the pipeline stage and
/// the expert rank; what a lone one is the name does not tell.
struct RankName {
  std::string raw;
  uint32_t tp = 0;
  std::optional<uint32_t> first;
  std::optional<uint32_t> second;

  int suffixes() const { return first.has_value() + second.has_value(); }
};

/// Orders by numbers: tp, then the suffixes.
std::strong_ordering ByNumbers(const RankName& a, const RankName& b);

/// A rank, whichever way its directory is spelt.
struct Rank {
  uint32_t tp = 0;
  uint32_t pp = 0;
  uint32_t ep = 0;

  bool operator==(const Rank&) const = default;
};

/// The number of ranks along each axis of parallelism.
struct RankSizes {
  uint32_t tp = 1;
  uint32_t pp = 1;
  uint32_t ep = 1;

  bool operator==(const RankSizes&) const = default;
};

/// Nothing for a name that Megatron does not write: numbers have at least two digits (tp) or three,
/// no zeros beyond those, and at most nine.
std::optional<RankName> ParseRankName(std::string_view name);

/// As FormatRankName would give it, with suffixes as they stand.
std::string FormatRankName(uint32_t tp, std::optional<uint32_t> first = {},
                           std::optional<uint32_t> second = {});

/// The directory of a rank: a suffix for pp where there are several stages, one for ep where there
/// are several expert ranks.
std::string FormatRankName(const Rank& rank, const RankSizes& sizes);

/// The rank that a directory of a checkpoint of these sizes is of: what FormatRankName undoes. A
/// lone suffix counts stages where there are several, else expert ranks.
Rank RankOf(const RankName& name, const RankSizes& sizes);

/// Which of a rank's model chunks `key` names: 0 for `model`, N for `modelN`; nothing for any other
/// key. A file has either `model`, or one chunk `modelN` for each virtual pipeline stage.
std::optional<uint32_t> ParseChunk(std::string_view key);

/// The key of chunk `index` of `count`.
std::string FormatChunk(uint32_t index, uint32_t count);

/// `<rank directory>/<chunk>/<key>`: the catalog's name of a tensor. The parts point into the name.
struct TensorName {
  std::string_view rank;   ///< `mp_rank_01_002`
  std::string_view chunk;  ///< `model`, `model0`, ...
  std::string_view key;    ///< any text, empty too, with any '/' in it
};

/// Nothing where the first part is no rank's name or the second no chunk's.
std::optional<TensorName> ParseTensorName(std::string_view name);

std::string FormatTensorName(const TensorName& name);

}  // namespace reshard::megatron

#endif  // RESHARD_CHECKPOINTS_MEGATRON_RANK_NAME_H_
