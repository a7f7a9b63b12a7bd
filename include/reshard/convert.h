#ifndef RESHARD_CONVERT_H_
#define RESHARD_CONVERT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "reshard/error.h"
#include "reshard/plan.h"
#include "reshard/reporter.h"
#include "reshard/request.h"
#include "reshard/source.h"

namespace reshard {

/// Opens a checkpoint of kind `from`: "dcp", "hf", "megatron", "pt", or "auto" to tell it from its
/// files. A directory with a latest_checkpointed_iteration.txt stands for the iteration it names.
Result<std::unique_ptr<Source>> OpenSource(const std::string& path,
                                           const std::string& from = "auto");

/// The tensors whose name a regular expression is found in; all for an empty one. Errors are of
/// kind kUsage. The pointers live as long as the catalog.
Result<std::vector<const Tensor*>> SelectTensors(const Catalog& catalog,
                                                 const std::string& expression);

/// How a conversion is run; none of it changes the output.
struct RunOptions {
  unsigned jobs = 0;             ///< threads; 0: one for each processor
  uint64_t memory = 0;           ///< most bytes of buffers; 0: 48 MiB
  bool force = false;            ///< replace a destination that exists
  bool resume = true;            ///< go on where an earlier run stopped
  const std::atomic<bool>* cancelled = nullptr;  ///< becomes true to stop; may be null
};

/// What a conversion has done.
struct ConvertSummary {
  PlanSummary plan;
  uint64_t bytes_written = 0;
  uint64_t bytes_resumed = 0;    ///< of them, found finished from an earlier run
  uint64_t files = 0;
  double seconds = 0;
  /// Tensors with finite values that became infinite in a narrower type, and how many.
  std::vector<std::pair<std::string, uint64_t>> overflows;
  std::vector<std::string> left_behind{};   ///< see PlanDescription
  std::vector<std::string> missing_assets;  ///< what a loader will look for and not find
  /// An earlier run had written the output whole; this one has only ended what that one began.
  bool was_complete = false;
};

/// A checked plan together with its open source. Movable; used by one thread.
class Conversion {
 public:
  /// Opens the source and decides every byte of the output; writes nothing. Warnings go to the
  /// reporter.
  static Result<Conversion> Prepare(const ConvertRequest& request, Reporter& reporter);

  Conversion(Conversion&&) noexcept;
  Conversion& operator=(Conversion&&) noexcept;
  ~Conversion();

  const PlanSummary& summary() const;

  /// The plan as a value, whole unless it is asked for without its tensors.
  PlanDescription Describe(Detail detail = Detail::kTensors) const;

  /// Writes the output and gives it its name, last of all. On an error nothing is visible under the
  /// destination's name; what is finished stays beside it for the next run.
  Result<ConvertSummary> Run(const RunOptions& options, Reporter& reporter);

 private:
  struct State;
  explicit Conversion(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// The plan as JSON, with the request that made it: see docs/json.md.
std::string PlanJson(const ConvertRequest& request, const PlanDescription& plan);

/// The request in a plan's JSON, and the plan_id that it must lead to again.
struct StoredPlan {
  ConvertRequest request;
  std::string plan_id;
};

/// Reads back what PlanJson wrote. Only the request is taken from it, never a byte range; errors are
/// of kind kUsage.
Result<StoredPlan> ParsePlanJson(const std::string& json, const std::string& file);

/// A file that differs from its manifest.
struct VerifyFault {
  std::string file;
  std::string what;
};

struct VerifyReport {
  uint64_t files = 0;
  uint64_t bytes = 0;
  std::vector<VerifyFault> faults;    ///< listed files that are not as they were written
  std::vector<VerifyFault> unlisted;  ///< other files, which a loader may take for weights

  bool ok() const { return faults.empty() && unlisted.empty(); }
};

/// Reads every file that the reshard-manifest.json in `directory` lists and compares sizes and
/// checksums; of files that it does not list, looks for such as have names of weights. A directory without a manifest, or with a
/// damaged one, is an error of kind kSource.
Result<VerifyReport> Verify(const std::string& directory, const RunOptions& options,
                            Reporter& reporter);

/// A recipe in a few words.
struct RecipeInfo {
  std::string name;
  std::string description;
};

/// The built-in recipes, sorted by name.
std::vector<RecipeInfo> ListRecipes();

/// The text of a recipe, by name or file, after checking it whole.
Result<std::string> RecipeText(const std::string& name);

/// The built-in recipe of a flavor that is for one of these classes of models; empty where there is
/// none.
std::string RecipeFor(std::string_view flavor, const std::vector<std::string>& architectures);

/// The version of the program and the library.
std::string_view Version();

}  // namespace reshard

#endif  // RESHARD_CONVERT_H_
