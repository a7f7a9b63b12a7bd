#ifndef RESHARD_IO_SYSTEM_CALL_H_
#define RESHARD_IO_SYSTEM_CALL_H_

#include <cerrno>

namespace reshard {

/// Makes a system call, again each time that a signal has interrupted it. Not for close, which has
/// closed the descriptor even then.
template <typename Call>
auto Retry(const Call& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace reshard

#endif  // RESHARD_IO_SYSTEM_CALL_H_
