#include "cli/interrupt.h"

#include <csignal>

namespace reshard::cli {
namespace {

// What a signal handler can reach is global by nature.
std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void OnSignal(int number) {
  interrupted = true;
  std::signal(number, SIG_DFL);
}

}  // namespace

void CatchInterrupts() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  // A file that may not grow further is an error of the write, not the end of the program.
  std::signal(SIGXFSZ, SIG_IGN);
}

const std::atomic<bool>& Interrupted() { return interrupted; }

}  // namespace reshard::cli
