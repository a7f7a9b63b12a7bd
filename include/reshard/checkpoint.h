#ifndef RESHARD_CHECKPOINT_H_
#define RESHARD_CHECKPOINT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reshard/catalog.h"
#include "reshard/error.h"
#include "reshard/layout.h"
#include "reshard/plan.h"
#include "reshard/reporter.h"
#include "reshard/source.h"

namespace reshard {

/// Which checkpoint, and in whose names its tensors are wanted.
struct OpenRequest {
  std::string path;                      ///< a directory or a file
  std::string from = "auto";             ///< its kind: auto, dcp, hf, megatron, pt
  LayoutRequest from_layout{};           ///< how it is dealt out, where its files do not say
  std::string from_recipe = "identity";  ///< the flavor it is in: auto, a flavor, a recipe, a file
  std::string to_recipe{};               ///< the flavor that is wanted; empty: the hub's
  std::string assets_from{};             ///< where config.json lies; empty: with or beside it
  std::string config_json{};             ///< the text of a config.json, in place of that one
  bool dequantize = false;               ///< float8 weights are float32, multiplied by their scales
  bool keep_unknown = false;             ///< tensors that `to_recipe` has no rule for keep the hub's
                                         ///< names; otherwise they are an error
  std::vector<std::string> ignore{};     ///< expressions for names that may be dropped
};

/// A tensor of an opened checkpoint: whole, under the name that was asked for.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
};

/// How a tensor is made of those that the checkpoint stores: a tree. docs/architecture.md, "View".
struct TensorExpression {
  std::string op;  ///< source, fill, slice, concat, reshape, permute, cast, dequantize
  DType dtype = DType::kFloat32;
  Shape shape;
  std::string source{};        ///< source: the stored tensor's name
  size_t dim = 0;              ///< slice, concat
  int64_t start = 0;           ///< slice; its length is shape[dim]
  double value = 0;            ///< fill
  std::vector<size_t> dims{};  ///< permute
  Shape block{};               ///< dequantize: values that share a scale, by dimension
  std::vector<TensorExpression> inputs{};
};

/// A box of a tensor, and the memory that it is wanted in.
struct BoxRead {
  size_t tensor = 0;            ///< index into Checkpoint::tensors()
  DType dtype = DType::kFloat32;  ///< of the memory; where it is another, both must be castable
  Shape start;
  Shape extent;
  std::byte* to = nullptr;       ///< where the first element goes
  std::vector<int64_t> strides;  ///< of the memory, in elements, one a dimension
};

/// How boxes are read; none of it changes what is read.
struct ReadOptions {
  unsigned jobs = 0;                             ///< threads; 0: one for each processor
  const std::atomic<bool>* cancelled = nullptr;  ///< becomes true to stop; may be null
  /// Which of the checkpoint's checks (a replica equals the other one, what is left out is zero) are
  /// made too: those numbered check_part, check_part + check_parts, ...; none where check_parts is 0.
  /// Processes that read a checkpoint together share them out so.
  size_t check_part = 0;
  size_t check_parts = 1;
};

struct ReadSummary {
  uint64_t bytes_filled = 0;  ///< of the boxes, in memory
  uint64_t bytes_read = 0;    ///< from the checkpoint, checks and chunk headers included
  double seconds = 0;
  /// Tensors with finite values that became infinite in a narrower type, and how many.
  std::vector<std::pair<std::string, uint64_t>> overflows;
};

/// An open checkpoint as tensors by name, read only where they are asked for. Movable; its functions
/// may be called from several threads at once.
class Checkpoint {
 public:
  /// Reads metadata only. Each element of the checkpoint is in one of the tensors, is checked, or
  /// dropped by name: as for a conversion. Warnings go to the reporter.
  static Result<Checkpoint> Open(const OpenRequest& request, Reporter& reporter);

  /// The same of a source that is open already; `request.path` and `from` are not used.
  static Result<Checkpoint> Map(std::unique_ptr<Source> source, const OpenRequest& request,
                                Reporter& reporter);

  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const std::vector<TensorInfo>& tensors() const;  ///< sorted by name
  const Source& source() const;
  const std::string& recipe() const;      ///< the name of the recipe, or of both
  const std::string& recipe_why() const;  ///< on what evidence it was chosen
  const std::vector<Dropped>& dropped() const;  ///< whole tensors that are in none of these
  size_t check_count() const;

  TensorExpression Expression(size_t tensor) const;

  /// Where the elements of a box come from.
  struct Origin {
    std::string source;  ///< the stored tensor's name
    Shape first;         ///< the smallest and the largest coordinates that are read
    Shape last;
  };
  std::vector<Origin> Origins(size_t tensor, std::span<const int64_t> start,
                              std::span<const int64_t> extent) const;

  /// Fills all boxes, on several threads. Boxes must not overlap in memory. A file that has changed
  /// since the checkpoint was opened is an error of kind kSource. After an error some boxes are filled
  /// and some are not.
  Result<ReadSummary> Read(std::span<const BoxRead> boxes, const ReadOptions& options,
                           Reporter& reporter) const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace reshard

#endif  // RESHARD_CHECKPOINT_H_
