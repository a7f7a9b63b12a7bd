#ifndef RESHARD_ENGINE_WINDOW_H_
#define RESHARD_ENGINE_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/box_filler.h"
#include "plan/plan_data.h"

namespace reshard {

/// Bytes written at a time: with what is read for them they fit in a core's L2 cache.
inline constexpr size_t kWindowBytes = size_t{256} << 10;

/// Memory that one WindowFiller holds, where its widest window is kWindowBytes; else that much
/// more. A plan that dequantizes takes 128 KiB besides.
inline constexpr size_t kFillerBytes = 4 * kWindowBytes;

/// Called with a slot and the number of its finite values that became infinite.
using OverflowFn = std::function<void(const Slot&, size_t)>;

/// Makes any part of a planned file, in memory. Used by one thread; what it is made from is shared
/// and must outlive it.
class WindowFiller {
 public:
  /// `widest`: most bytes of a window, at least kWindowBytes.
  WindowFiller(const Source& source, const ChunkIndex& index, const ChunkLayouts& layouts,
               size_t widest = kWindowBytes);

  /// How large the windows should be that together are [begin, end) of `file`: kWindowBytes, or as
  /// large as may be where a tensor is transposed. There a window of few rows reads a few bytes of
  /// every row of the source; the more rows it has, the longer are the source's runs.
  size_t BestWindow(const FilePlan& file, uint64_t begin, uint64_t end) const;

  /// The bytes [begin, end) of `file`, at most `widest`; valid until the next call.
  Result<std::span<const std::byte>> Fill(const FilePlan& file, uint64_t begin, uint64_t end,
                                          const OverflowFn& on_overflow);

 private:
  bool IsTransposed(const Slot& slot, uint64_t begin, uint64_t end) const;
  Result<> FillSlot(const Slot& slot, uint64_t begin, uint64_t end, const OverflowFn& on_overflow);

  const Source& source_;
  size_t widest_;
  BoxFiller filler_;
  std::vector<std::byte> buffer_;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_WINDOW_H_
