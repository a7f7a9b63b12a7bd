#ifndef RESHARD_ENGINE_CREW_H_
#define RESHARD_ENGINE_CREW_H_

#include <atomic>
#include <cstdint>
#include <functional>

#include "reshard/error.h"

namespace reshard {

/// Does one step of a piece of work; owned and called by one thread.
using StepFn = std::function<Result<>(uint64_t step)>;

/// Threads that share out the steps of a piece of work among them.
struct Crew {
  unsigned jobs = 1;                             ///< threads at most, at least 1
  const std::atomic<bool>* cancelled = nullptr;  ///< becomes true to stop; may be null
  std::function<void()> watch = [] {};           ///< called by the calling thread about ten times a
                                                 ///< second, and once at the end

  /// Does steps 0 to `count` - 1, each once, in any order, begun in this one. Each thread asks
  /// `make_worker` for what it does steps with. Steps that run long look at `*stop`, which becomes
  /// true when there is no more use in going on. The error is the first one met; kInterrupted where
  /// `*cancelled` became true. What a worker throws (std::bad_alloc) is thrown here, when all have
  /// ended. Where the system gives fewer threads, those do it all, failing that the calling one.
  Result<> Run(uint64_t count, std::atomic<bool>* stop,
               const std::function<StepFn()>& make_worker) const;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_CREW_H_
