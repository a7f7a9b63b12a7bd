#include "cli/interrupt.h"

#include <unistd.h>

#include <csignal>
#include <string_view>

#include "reshard/error.h"

namespace reshard::cli {
namespace {

// What a signal handler can reach is global by nature.
std::atomic<bool> gently = false;
std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void OnSignal(int number) {
  if (!gently) {
    constexpr std::string_view kText = "error[interrupted]: interrupted\n";
    (void)!::write(STDERR_FILENO, kText.data(), kText.size());
    ::_exit(ExitCode(ErrorKind::kInterrupted));
  }
  interrupted = true;
  std::signal(number, SIG_DFL);
}

}  // namespace

void CatchInterrupts() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  // A file that may not grow further is an error of the write, not the end of the program.
  std::signal(SIGXFSZ, SIG_IGN);
  // Nor is a reader of standard output that has seen enough.
  std::signal(SIGPIPE, SIG_IGN);
}

void StopGently() { gently = true; }

const std::atomic<bool>& Interrupted() { return interrupted; }

}  // namespace reshard::cli
