#ifndef RESHARD_API_JOBS_H_
#define RESHARD_API_JOBS_H_

#include <algorithm>
#include <cstdint>
#include <thread>

#include "engine/window.h"

namespace reshard {

inline constexpr uint64_t kDefaultMemory = uint64_t{48} << 20;

inline uint64_t MemoryFor(uint64_t memory) { return memory > 0 ? memory : kDefaultMemory; }

/// How many threads: `jobs`, or one for each processor where it is 0; no more than there is memory
/// for.
inline unsigned JobsFor(unsigned jobs, uint64_t memory) {
  const unsigned wanted = jobs > 0 ? jobs : std::max(1u, std::thread::hardware_concurrency());
  return static_cast<unsigned>(
      std::clamp<uint64_t>(MemoryFor(memory) / (kFillerBytes + kWindowBytes), 1, wanted));
}

}  // namespace reshard

#endif  // RESHARD_API_JOBS_H_
