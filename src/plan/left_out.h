#ifndef RESHARD_PLAN_LEFT_OUT_H_
#define RESHARD_PLAN_LEFT_OUT_H_

#include <span>
#include <vector>

#include "recipe/mapping.h"
#include "reshard/catalog.h"

namespace reshard {

/// What the target will not hold, told by name.
struct LeftOut {
  std::vector<Dropped> tensors;  ///< none of whose elements it holds
  std::vector<Dropped> parts;    ///< rows of padding
};

/// Both lists of a mapping or plan as one. What is a whole tensor of the source has its name there,
/// with its rank, whatever the recipe calls it; else the name is the one on the way to the target.
LeftOut ListLeftOut(std::span<const Dropped> dropped, std::span<const DroppedPart> parts,
                    const Catalog& catalog);

}  // namespace reshard

#endif  // RESHARD_PLAN_LEFT_OUT_H_
