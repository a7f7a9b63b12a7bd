#ifndef RESHARD_ENGINE_CHUNK_LAYOUTS_H_
#define RESHARD_ENGINE_CHUNK_LAYOUTS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "engine/checked_source.h"
#include "plan/plan_data.h"
#include "reshard/source.h"

namespace reshard {

/// Which chunks of a catalog, by position among all of them.
using ChunkSet = std::vector<bool>;

/// The chunks of all tensors that a plan reads.
ChunkSet ChunksOf(const Plan& plan, const Catalog& catalog);

/// Where the elements of every chunk that is going to be read lie: found, and with it each chunk's
/// header checked, before the first byte is written. Immutable once made.
class ChunkLayouts {
 public:
  /// Asks the source about each chunk of the set, on `jobs` threads. Stops with kInterrupted where
  /// `*cancelled` becomes true.
  static Result<ChunkLayouts> Locate(const ChunkSet& chunks, const Source& source, unsigned jobs,
                                     const std::atomic<bool>* cancelled);

  /// The checksums that the source's files carry of these chunks, each maybe several times.
  std::vector<ExpectedCrc> TakeCrcs() { return std::move(crcs_); }

  /// The layout of chunk number `chunk`, one of the set, which belongs to `tensor`.
  ChunkLayout Get(const Catalog& catalog, const Tensor& tensor, uint32_t chunk) const;

 private:
  // A chunk that lies row by row, as nearly all do, is its first byte; the rest are listed.
  std::vector<uint64_t> first_byte_;
  std::unordered_map<uint32_t, ChunkLayout> other_;
  std::vector<ExpectedCrc> crcs_;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_CHUNK_LAYOUTS_H_
