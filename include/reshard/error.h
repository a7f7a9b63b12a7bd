#ifndef RESHARD_ERROR_H_
#define RESHARD_ERROR_H_

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

namespace reshard {

/// What went wrong, as a user would sort it. Each kind has one exit code on the command line.
enum class ErrorKind {
  kAnswerNo,     ///< the answer to a question is no (`verify` found a difference)        exit 1
  kUsage,        ///< the request itself is wrong                                         exit 2
  kSource,       ///< the source is unreadable, corrupt or unsafe                         exit 3
  kMapping,      ///< the source is fine, but does not fit the recipe or the target       exit 4
  kDestination,  ///< the destination or the environment (exists, space, permission)      exit 5
  kPartial,      ///< stopped part-way for another reason; running again resumes          exit 6
  kInternal,     ///< a defect of reshard                                                 exit 70
  kInterrupted,  ///< stopped by the user; running again resumes                          exit 130
};

/// One failure: where it is, what was found there, what was expected, what to do about it.
/// Every text field is one sentence without a final newline; empty fields are not printed.
struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string file{};              ///< path of the file at fault
  std::optional<uint64_t> offset{};///< byte offset in `file`
  std::string tensor{};            ///< name of the tensor or object at fault
  std::string found{};
  std::string expected{};
  std::string help{};

  /// All fields as readable text, one per line: what was found first.
  std::string ToString() const;
};

/// The process exit status that stands for `kind`.
int ExitCode(ErrorKind kind);

/// The name of `kind` in machine-readable output, e.g. "source".
std::string_view ErrorKindName(ErrorKind kind);

template <typename T = void>
using Result = std::expected<T, Error>;

}  // namespace reshard

#endif  // RESHARD_ERROR_H_
