#ifndef RESHARD_CLI_INTERRUPT_H_
#define RESHARD_CLI_INTERRUPT_H_

#include <atomic>

namespace reshard::cli {

/// From now on SIGINT and SIGTERM end the program at once, with the exit code of kInterrupted: while
/// a checkpoint is read there is nothing to put in order.
void CatchInterrupts();

/// From now on they ask it to stop; a second one ends it at once.
void StopGently();

/// Becomes true when the program was asked to stop.
const std::atomic<bool>& Interrupted();

}  // namespace reshard::cli

#endif  // RESHARD_CLI_INTERRUPT_H_
