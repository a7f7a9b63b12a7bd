#ifndef RESHARD_CLI_INTERRUPT_H_
#define RESHARD_CLI_INTERRUPT_H_

#include <atomic>

namespace reshard::cli {

/// From now on SIGINT and SIGTERM ask the program to stop; a second one ends it at once.
void CatchInterrupts();

/// Becomes true when the program was asked to stop.
const std::atomic<bool>& Interrupted();

}  // namespace reshard::cli

#endif  // RESHARD_CLI_INTERRUPT_H_
