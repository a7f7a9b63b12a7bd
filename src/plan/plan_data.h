#ifndef RESHARD_PLAN_PLAN_DATA_H_
#define RESHARD_PLAN_PLAN_DATA_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/file_layout.h"
#include "recipe/mapping.h"
#include "reshard/plan.h"
#include "view/view.h"

namespace reshard {

/// Where a tensor goes in a file, and what it is made of.
struct Slot {
  std::string name;
  uint64_t offset = 0;  ///< first byte in the file
  View view;            ///< its type and shape are the slot's

  uint64_t byte_size() const;
};

/// One file of the target. Literals and slots together cover it; or it is a copy of another file.
struct FilePlan {
  std::string path;  ///< relative to the destination
  uint64_t size = 0;
  std::vector<Literal> literals{};    ///< sorted by offset
  std::vector<Slot> slots{};          ///< sorted by offset
  std::vector<LateCrc> late_crcs{};   ///< sorted by begin
  std::string copy_of{};              ///< where the original lies; empty where there is none
};

/// Which files get which bytes: decided and checked before anything is written, never changed
/// after. Holds no file open and no tensor data.
struct Plan {
  PlanSummary summary;
  std::vector<FilePlan> files;
  std::vector<Check> checks;  ///< must hold of the source, or the target does not become visible
  std::vector<Dropped> dropped;
  std::vector<DroppedPart> dropped_parts;
  std::vector<std::string> warnings;
  std::vector<std::string> left_behind{};
  std::vector<std::string> missing_assets;

  uint64_t total_bytes() const;    ///< of all files together
  uint64_t checked_bytes() const;  ///< of the views of all checks together
};

}  // namespace reshard

#endif  // RESHARD_PLAN_PLAN_DATA_H_
