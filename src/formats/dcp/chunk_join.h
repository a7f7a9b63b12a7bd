#ifndef RESHARD_FORMATS_DCP_CHUNK_JOIN_H_
#define RESHARD_FORMATS_DCP_CHUNK_JOIN_H_

#include <cstdint>
#include <span>
#include <vector>

namespace reshard::dcp {

/// Finds, for the entries of storage_data, the chunks that they hold: by tensor and start. The two
/// mostly come in the same order, tensor by tensor, so the next chunk of the tensor is tried first;
/// a tensor for which that fails is sorted once.
class ChunkJoin {
 public:
  /// `boxes`: where in `ints` the box of each chunk begins. Both must outlive the object.
  ChunkJoin(std::span<const int64_t> ints, std::span<const uint32_t> boxes)
      : ints_(ints), boxes_(boxes) {}

  static constexpr uint32_t kNone = ~uint32_t{0};

  /// The chunks of one tensor.
  struct Range {
    uint32_t first = 0;
    uint32_t count = 0;
    uint32_t rank = 0;
    uint32_t next = 0;  // of those, the one to try
    bool sorted = false;
  };

  /// The chunk of `range` that begins at ints[start, +rank), or kNone.
  uint32_t Find(Range* range, uint32_t start);

 private:
  std::span<const int64_t> StartOf(const Range& range, uint32_t chunk) const {
    return ints_.subspan(boxes_[chunk], range.rank);
  }

  std::span<const int64_t> ints_;
  std::span<const uint32_t> boxes_;
  std::vector<uint32_t> order_;  // chunks, sorted by start within each sorted range
};

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_CHUNK_JOIN_H_
