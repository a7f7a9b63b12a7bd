#ifndef RESHARD_PLAN_H_
#define RESHARD_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

namespace reshard {

/// A source entry that the target will not hold, and why.
struct Dropped {
  std::string name;
  uint64_t byte_size = 0;
  std::string why;
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
  uint64_t dropped_tensors = 0;
  uint64_t dropped_objects = 0;
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
  std::vector<Dropped> dropped;
  std::vector<std::string> warnings;
  /// Files and folders ("onnx/") of summary.assets_from that are not copied: weights in other formats,
  /// a training's state.
  std::vector<std::string> left_behind{};
  std::vector<std::string> missing_assets;  ///< what a loader will look for and not find
};

}  // namespace reshard

#endif  // RESHARD_PLAN_H_
