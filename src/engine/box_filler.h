#ifndef RESHARD_ENGINE_BOX_FILLER_H_
#define RESHARD_ENGINE_BOX_FILLER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/chunk_layouts.h"
#include "engine/gather.h"
#include "view/chunk_index.h"
#include "view/view.h"

namespace reshard {

/// Makes boxes of views in memory: what the bytes of a file, and of a tensor in memory, come from.
/// Used by one thread; what it reads through is shared and must outlive it.
class BoxFiller {
 public:
  BoxFiller(const Source& source, const ChunkIndex& index, const ChunkLayouts& layouts,
            size_t scratch_bytes, GapRule gaps = {})
      : source_(source), index_(index), layouts_(layouts), gatherer_(source, scratch_bytes, gaps) {}

  /// Fills the elements of `box` of `view`: the first of them goes to `dst`, and `strides` says, in
  /// elements, how far neighbours along each dimension lie from each other. Gives the number of
  /// finite values that a cast made infinite. Errors name the tensor of the source.
  Result<size_t> Fill(const View& view, BoxView box, std::span<const int64_t> strides,
                      std::byte* dst);

 private:
  Result<size_t> CopyDequantized(const Region& region, DType dtype, std::byte* dst);
  Result<> ReadScales(const Region& box);
  Result<> CopyRegion(const Region& region, std::byte* dst);
  Result<size_t> CopyPiece(const ChunkIndex::Piece& piece, DType dtype, std::byte* dst);

  const Source& source_;
  const ChunkIndex& index_;
  const ChunkLayouts& layouts_;
  Gatherer gatherer_;
  std::vector<std::byte> values_;  // of float8, and their scales, as they are stored
  std::vector<float> scales_;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_BOX_FILLER_H_
