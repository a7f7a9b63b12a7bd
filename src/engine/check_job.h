#ifndef RESHARD_ENGINE_CHECK_JOB_H_
#define RESHARD_ENGINE_CHECK_JOB_H_

#include <atomic>
#include <cstdint>
#include <span>

#include "engine/checksum.h"
#include "engine/window.h"
#include "plan/plan_data.h"
#include "reshard/source.h"

namespace reshard {

/// One check of a plan: two views of the source compared byte by byte, block by block, in any
/// order, by several threads at once. The check must outlive it.
class CheckJob {
 public:
  explicit CheckJob(const Check& check);

  /// A block is some windows of whole elements, about kBlockBytes; none where there is no element.
  uint64_t block_count() const;

  /// What one thread needs to compare blocks.
  struct Tools {
    const Source& source;
    WindowFiller& filler;
    std::atomic<uint64_t>& bytes_done;
    const std::atomic<bool>& stop;  ///< looked at between windows
  };

  /// Compares block number `block`; holds kWindowBytes beside the filler. A difference is an error
  /// of kind kSource that names the block's first differing element, both values, and where they
  /// lie.
  Result<> CompareBlock(uint64_t block, const Tools& tools) const;

 private:
  uint64_t block_bytes() const { return kBlockBytes / kWindowBytes * window_bytes_; }
  Error Difference(int64_t element, std::span<const std::byte> found,
                   std::span<const std::byte> expected, const Source& source) const;

  const Check& check_;
  FilePlan view_;
  FilePlan equals_;
  uint64_t window_bytes_ = 0;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_CHECK_JOB_H_
