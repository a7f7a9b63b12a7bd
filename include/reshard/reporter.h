#ifndef RESHARD_REPORTER_H_
#define RESHARD_REPORTER_H_

#include <cstdint>
#include <string_view>

namespace reshard {

/// How far a running plan is. Bytes are bytes of the target, and of what is
/// left out of it after a comparison.
struct Progress {
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  uint64_t bytes_resumed = 0;  ///< of bytes_done, found finished from an earlier run
  uint64_t files_done = 0;
  uint64_t files_total = 0;
  double seconds = 0;  ///< since the run began
};

/// Receives what happens. All calls come from the thread that called the library, never two at
/// once; the library itself prints nothing.
class Reporter {
 public:
  virtual ~Reporter() = default;

  /// About ten times a second while a plan runs, and once at its end.
  virtual void OnProgress(const Progress&) {}

  /// Something that a person should know and that is no error.
  virtual void OnWarning(std::string_view) {}
};

}  // namespace reshard

#endif  // RESHARD_REPORTER_H_
