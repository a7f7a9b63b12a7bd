#ifndef RESHARD_PLAN_H_
#define RESHARD_PLAN_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace reshard {

/// What leaves something of the source out of the target.
enum class LeftOutBy : uint8_t {
  kRecipe,   ///< a `drop` rule
  kIgnore,   ///< --ignore
  kOnly,     ///< --only
  kLlmFrom,  ///< --llm-from: a tensor of the same name stands in its place
  kPadding,  ///< nothing but rows of it: they pad the vocabulary
};
inline constexpr LeftOutBy kAllLeftOutBy[] = {LeftOutBy::kRecipe, LeftOutBy::kIgnore,
                                              LeftOutBy::kOnly, LeftOutBy::kLlmFrom,
                                              LeftOutBy::kPadding};

/// "recipe", "ignore", "only", "llm-from", "padding".
std::string_view LeftOutName(LeftOutBy by);

/// A source entry that the target will not hold, and why.
struct Dropped {
  std::string name;
  uint64_t byte_size = 0;
  std::string why;
  LeftOutBy by = LeftOutBy::kRecipe;
};

/// What a plan does, in numbers.
struct PlanSummary {
  std::string plan_id;      ///< 32 hex digits, derived from all that decides the output's bytes
  std::string source_kind;  ///< "dcp", "hf", "pt"
  std::string recipe;       ///< the recipe's name
  std::string recipe_why;   ///< on what evidence it was chosen
  std::string assets_from;  ///< the directory that config and tokenizer come from; empty: none do
  uint64_t tensors = 0;     ///< written
  uint64_t casts = 0;       ///< of them, converted to another element type
  uint64_t assembled = 0;   ///< of them, put together from more than one chunk
  uint64_t bytes_read = 0;  ///< of the source, to copy and to check
  uint64_t bytes_written = 0;
  uint64_t objects = 0;     ///< values that are no tensors, written
  uint64_t dropped_tensors = 0;  ///< tensors that the target does not hold at all
  uint64_t dropped_parts = 0;    ///< tensors of which it does not hold the rows of padding
  uint64_t dropped_objects = 0;
  /// How many of these by what leaves them out: each LeftOutName, and "objects".
  std::map<std::string, uint64_t> left_out{};
  /// How many tensors a request to cast all of them has left in their type, by the reason.
  std::map<std::string, uint64_t> kept_types{};
  uint64_t checks = 0;      ///< parts of the source that are left out because others equal them
};

/// One tensor of the target.
struct PlannedTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  uint64_t offset = 0;     ///< of its first byte in the file
  uint64_t byte_size = 0;
  std::string view;        ///< what it is made of, e.g. `cast("a", bfloat16)`
};

/// One file of the target.
struct PlannedFile {
  std::string path;  ///< relative to the destination
  uint64_t byte_size = 0;
  /// Empty for what holds no tensors (assets, the index), and with Detail::kFiles.
  std::vector<PlannedTensor> tensors;
};

/// How much of a plan is described: the tensors of a large one are many times its files.
enum class Detail : uint8_t { kFiles, kTensors };

/// A plan as a value to print or compare; see docs/json.md for its JSON form.
struct PlanDescription {
  PlanSummary summary;
  std::vector<PlannedFile> files;
  std::vector<Dropped> dropped;        ///< whole tensors: summary.dropped_tensors of them
  std::vector<Dropped> dropped_parts;  ///< rows of padding: summary.dropped_parts of them
  std::vector<std::string> warnings;
  /// Files and folders ("onnx/") of summary.assets_from that are not copied: weights in other formats,
  /// a training's state.
  std::vector<std::string> left_behind{};
  std::vector<std::string> missing_assets;  ///< what a loader will look for and not find
};

}  // namespace reshard

#endif  // RESHARD_PLAN_H_
