#include "engine/crew.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace reshard {
namespace {

constexpr auto kWatchInterval = std::chrono::milliseconds(100);

}  // namespace

Result<> Crew::Run(uint64_t count, std::atomic<bool>* stop,
                   const std::function<StepFn()>& make_worker) const {
  const auto threads_needed = static_cast<unsigned>(std::min<uint64_t>(jobs, count));
  std::atomic<uint64_t> next = 0;
  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  unsigned running = threads_needed;
  std::optional<Error> error;

  const auto is_cancelled = [&] { return cancelled && *cancelled; };
  const auto work = [&] {
    const StepFn do_step = make_worker();
    for (uint64_t step = next++; step < count && !*stop && !is_cancelled(); step = next++) {
      auto done = do_step(step);
      if (done) continue;
      std::lock_guard lock(mutex);
      if (!error) error = std::move(done).error();
      *stop = true;
    }
    std::lock_guard lock(mutex);
    --running;
    changed.notify_all();
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < threads_needed; ++i) threads.emplace_back(work);
    std::unique_lock lock(mutex);
    for (bool more = true; more;) {
      changed.wait_for(lock, kWatchInterval, [&] { return running == 0; });
      more = running > 0;
      if (is_cancelled()) *stop = true;
      lock.unlock();
      watch();
      lock.lock();
    }
  }
  if (!error && is_cancelled()) error = {.kind = ErrorKind::kInterrupted, .found = "interrupted"};
  if (error) return std::unexpected(std::move(*error));
  return {};
}

}  // namespace reshard
