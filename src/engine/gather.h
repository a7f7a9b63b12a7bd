#ifndef RESHARD_ENGINE_GATHER_H_
#define RESHARD_ENGINE_GATHER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/cast.h"
#include "reshard/source.h"

namespace reshard {

/// One loop of a strided copy; strides in elements.
struct StridedLoop {
  int64_t extent = 1;
  int64_t src_stride = 0;
  int64_t dst_stride = 0;
};

/// A strided copy from one place of a source into memory.
struct StridedCopy {
  DType from = DType::kFloat32;
  DType to = DType::kFloat32;      ///< castable where it differs from `from`
  std::vector<StridedLoop> loops;  ///< outermost first
  std::byte* dst = nullptr;        ///< where the first element goes
};

/// When bytes that are not wanted are read along with those that are: where at least one in `factor`
/// is wanted, or the gaps are no longer than `bytes`. A read of its own costs as much as reading past
/// a few kilobytes of what is in memory anyway.
struct GapRule {
  int64_t factor = 4;
  int64_t bytes = 4 << 10;
};

/// Reads and converts boxes of elements through a scratch buffer of fixed size: one read for a box
/// whose bytes lie close together, several for one that is scattered. Used by one thread.
class Gatherer {
 public:
  Gatherer(const Source& source, size_t scratch_bytes, GapRule gaps = {})
      : source_(source), scratch_(scratch_bytes), gaps_(gaps) {}

  /// Performs `copy` from the elements that start `first` elements after the layout's own start.
  /// Gives the number of finite values that a cast made infinite.
  Result<size_t> Copy(const ChunkLayout& layout, int64_t first, const StridedCopy& copy);

 private:
  struct Job;
  struct Pieces;
  Pieces FindPieces(std::span<const StridedLoop> loops, int64_t size) const;
  Result<> ReadPieces(const Job& job, std::span<const StridedLoop> loops, const Pieces& pieces,
                      uint64_t offset, std::byte* out);
  Result<> CopyNest(Job& job, std::vector<StridedLoop> loops, uint64_t offset, std::byte* dst);

  const Source& source_;
  std::vector<std::byte> scratch_;
  GapRule gaps_;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_GATHER_H_
