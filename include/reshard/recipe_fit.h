#ifndef RESHARD_RECIPE_FIT_H_
#define RESHARD_RECIPE_FIT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "reshard/error.h"
#include "reshard/layout.h"

namespace reshard {

/// A recipe and a checkpoint that it may fit.
struct RecipeFitRequest {
  std::string recipe;           ///< a built-in one by its whole name, or a file
  std::string checkpoint;       ///< of any kind
  std::string from = "auto";    ///< its kind, as in ConvertRequest
  LayoutRequest from_layout{};  ///< how it is dealt out, where its files do not say
  std::string hub_form{};       ///< as in ConvertRequest
  std::string assets_from{};    ///< where config.json lies; empty: with or beside the checkpoint
};

/// What does not fit, tensor by tensor.
struct RecipeFit {
  struct NoRule {
    std::string tensor;
    std::string nearest;  ///< the most similar name of a rule
  };
  struct Misfit {
    std::string tensor;  ///< empty where it is no tensor's fault
    std::string found;
    std::string expected;
  };

  std::string recipe;
  bool hub = false;  ///< the checkpoint has the hub's names; otherwise those here
  uint64_t tensors = 0;
  std::vector<NoRule> no_rule;
  std::vector<Misfit> misfits;       ///< shapes, tensors that are missing, names that clash
  std::vector<std::string> unused;   ///< rules whose condition holds and that no tensor matches
  std::vector<std::string> unknown;  ///< sizes that the config does not give

  /// Unused rules and unknown sizes are no fault by themselves: not every model has all of a
  /// family.
  bool fits() const { return no_rule.empty() && misfits.empty(); }
};

/// Compares the names and shapes of a checkpoint with a recipe, in the direction that its names
/// suggest, and goes as far as a conversion goes before it writes. An error is what keeps it from
/// looking: a recipe that is none (kUsage), a checkpoint that cannot be read (kSource).
Result<RecipeFit> FitRecipe(const RecipeFitRequest& request);

}  // namespace reshard

#endif  // RESHARD_RECIPE_FIT_H_
