#ifndef RESHARD_RECIPE_RECIPE_CHECKS_H_
#define RESHARD_RECIPE_RECIPE_CHECKS_H_

#include <string>
#include <vector>

#include "recipe/recipe.h"

namespace reshard {

/// What must hold among the rules of a recipe, whatever the model: no name that two rules claim,
/// and one opinion on how the model is dealt out. A rule that says otherwise than the others is a
/// slip of the pen that no checkpoint need reveal: a tensor that is held whole where its neighbors
/// are cut is not lost, but no rank can use it.
class Recipe::Checks {
 public:
  /// `places` says of each rule where it stands: "FILE:LINE"; `alias_places` of each alias. All must
  /// outlive it.
  Checks(const Recipe& recipe, const std::vector<std::string>& places,
         const std::vector<std::string>& alias_places)
      : recipe_(recipe), places_(places), alias_places_(alias_places) {}

  /// Errors are of kind kUsage and name the place.
  Result<> Run() const;

 private:
  Result<> CheckOverlaps() const;
  Result<> CheckStages() const;
  Result<> CheckExperts() const;
  Result<> CheckAxes() const;
  Result<> CheckAlternatives() const;
  Result<> CheckAliases() const;
  Result<> CheckConditions() const;

  bool DealsOut() const;
  std::unexpected<Error> Fault(size_t rule, std::string found, std::string expected = {}) const;
  std::unexpected<Error> FaultAt(const std::string& place, std::string found,
                                 std::string expected) const;

  const Recipe& recipe_;
  const std::vector<std::string>& places_;
  const std::vector<std::string>& alias_places_;
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_RECIPE_CHECKS_H_
