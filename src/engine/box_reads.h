#ifndef RESHARD_ENGINE_BOX_READS_H_
#define RESHARD_ENGINE_BOX_READS_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "engine/crew.h"
#include "plan/plan_data.h"
#include "reshard/reporter.h"
#include "reshard/source.h"
#include "view/view.h"

namespace reshard {

/// A box of a view, and the memory that it is wanted in.
struct ViewRead {
  View view;  ///< its type is the memory's
  Shape start;
  Shape extent;
  std::byte* to = nullptr;       ///< of the first element
  std::vector<int64_t> strides;  ///< of the memory, in elements

  uint64_t byte_size() const;
};

struct ViewReadReport {
  uint64_t bytes_filled = 0;
  uint64_t bytes_read = 0;          ///< from the source, chunk headers not included
  std::vector<uint64_t> overflows;  ///< by read: finite values that became infinite
  std::set<uint32_t> files;         ///< of the catalog: those that something was read from
};

/// Fills the boxes, and makes the checks, on the threads of a crew (whose `watch` is not used).
/// Boxes must not overlap in memory. A check that does not hold is an error of kind kSource.
Result<ViewReadReport> RunReads(std::span<const ViewRead> reads,
                                std::span<const Check* const> checks, const Source& source,
                                Reporter& reporter, const Crew& crew);

}  // namespace reshard

#endif  // RESHARD_ENGINE_BOX_READS_H_
