#ifndef RESHARD_RECIPE_MAPPING_H_
#define RESHARD_RECIPE_MAPPING_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "reshard/plan.h"
#include "view/view.h"

namespace reshard {

/// A tensor of the target: its name and what it is made of. One more copy of what another tensor
/// holds, by a rule that says so, is a View::Repeat.
struct NamedView {
  std::string name;
  View view;
};

/// What the source repeats or what a rule has added, and the target will not hold: it must be equal
/// to what stands for it, element by element, before it may be left out.
struct Check {
  std::string name;  ///< of the tensor that is left out
  View view;         ///< that tensor, or the part of it
  View equals;       ///< what it must be; the same type and shape
  std::string why;   ///< "a copy of tp rank 0's", "zeros that the recipe adds"
};

/// What no target tensor will hold, whatever it is, where a name of the source does not say it: a
/// tensor on the way from one layout to another, or the rows that pad a vocabulary. Tensors of the
/// source are Dropped.
struct DroppedPart {
  std::string name;  ///< what it is: "rows 96 to 128 of embedding..."
  View view;
  std::string why;  ///< "rows 32000 to 32063 only pad the vocabulary"
  LeftOutBy by = LeftOutBy::kRecipe;
};

/// What becomes of a catalog: its tensors under other names, as views; what must hold for that to
/// lose nothing; and what is left out by name.
struct Mapping {
  std::vector<NamedView> tensors;  ///< sorted by name
  std::vector<Check> checks;
  /// Tensors of the source that no target tensor holds; those by kLlmFrom are in no catalog, as
  /// another one of the same name is.
  std::vector<Dropped> dropped;
  std::vector<DroppedPart> dropped_parts;
  std::map<std::string, uint64_t> kept_types;  ///< as in PlanSummary
  std::vector<std::string> warnings;
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_MAPPING_H_
