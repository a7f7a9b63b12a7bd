#ifndef RESHARD_VIEW_CHUNK_INDEX_H_
#define RESHARD_VIEW_CHUNK_INDEX_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "reshard/catalog.h"
#include "view/lower.h"

namespace reshard {

/// Cuts regions where the chunks of their source tensor meet. Immutable once made, so safe to use
/// from several threads; the catalog must outlive it.
class ChunkIndex {
 public:
  explicit ChunkIndex(const Catalog& catalog);

  /// A part of a region that lies in one chunk; `region.start` is counted from the chunk's corner.
  struct Piece {
    uint32_t chunk = 0;  ///< position among all chunks of the catalog
    Region region;
  };

  /// Calls `emit` for pieces that together are the region. Chunks are found by binary search along
  /// the first dimension.
  Result<> Cut(const Region& region, const std::function<Result<>(const Piece&)>& emit) const;

 private:
  const Catalog& catalog_;
  std::vector<int64_t> longest_;  // per tensor: the longest chunk along dimension 0
};

}  // namespace reshard

#endif  // RESHARD_VIEW_CHUNK_INDEX_H_
