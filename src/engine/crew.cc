#include "engine/crew.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

namespace reshard {
namespace {

constexpr auto kWatchInterval = std::chrono::milliseconds(100);

// As many of `count` threads as the system gives: fewer do the same work.
void StartThreads(unsigned count, const std::function<void()>& work,
                  std::vector<std::jthread>* threads) {
  threads->reserve(count);
  try {
    while (threads->size() < count) threads->emplace_back(work);
  } catch (const std::system_error&) {
  }
}

// What the threads of one Run have in common.
struct Shared {
  std::atomic<uint64_t> next = 0;
  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  unsigned finished = 0;  // workers
  std::optional<Error> error;
  std::exception_ptr thrown;
};

}  // namespace

Result<> Crew::Run(uint64_t count, std::atomic<bool>* stop,
                   const std::function<StepFn()>& make_worker) const {
  Shared shared;
  const auto is_cancelled = [&] { return cancelled && *cancelled; };
  const auto do_steps = [&] {
    const StepFn do_step = make_worker();
    for (uint64_t step = shared.next++; step < count && !*stop && !is_cancelled();
         step = shared.next++) {
      auto done = do_step(step);
      if (done) continue;
      std::lock_guard lock(shared.mutex);
      if (!shared.error) shared.error = std::move(done).error();
      *stop = true;
    }
  };
  const auto work = [&] {
    std::exception_ptr thrown;
    try {
      do_steps();
    } catch (...) {
      // It would end the program, were it to leave the thread.
      thrown = std::current_exception();
      *stop = true;
    }
    std::lock_guard lock(shared.mutex);
    if (!shared.thrown) shared.thrown = thrown;
    ++shared.finished;
    shared.changed.notify_all();
  };
  const auto watch_threads = [&](size_t threads) {
    std::unique_lock lock(shared.mutex);
    for (bool more = true; more;) {
      shared.changed.wait_for(lock, kWatchInterval, [&] { return shared.finished >= threads; });
      more = shared.finished < threads;
      if (is_cancelled()) *stop = true;
      lock.unlock();
      watch();
      lock.lock();
    }
  };
  const auto needed = static_cast<unsigned>(std::min<uint64_t>(jobs, count));
  {
    std::vector<std::jthread> threads;  // joined when this block is left
    try {
      StartThreads(needed, work, &threads);
      if (threads.empty() && needed > 0) work();
      watch_threads(threads.size());
    } catch (...) {
      *stop = true;
      throw;
    }
  }
  if (shared.thrown) std::rethrow_exception(shared.thrown);
  if (!shared.error && is_cancelled())
    shared.error = {.kind = ErrorKind::kInterrupted, .found = "interrupted"};
  if (shared.error) return std::unexpected(std::move(*shared.error));
  return {};
}

}  // namespace reshard
