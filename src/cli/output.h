#ifndef RESHARD_CLI_OUTPUT_H_
#define RESHARD_CLI_OUTPUT_H_

#include <chrono>
#include <string>
#include <string_view>

#include "reshard/error.h"
#include "reshard/reporter.h"

namespace reshard::cli {

/// How much a command says on standard error.
enum class Verbosity { kQuiet, kNormal, kVerbose };

/// Data: goes to standard output.
void Print(std::string_view text);

/// Gives the system what has been printed. The errno of the first part that could not be written, be
/// it this or an earlier one; 0 where all was.
int FlushOutput();

/// All else: goes to standard error.
void Say(std::string_view text);

/// An error as all commands show it, on standard error.
void PrintError(const Error& error);

/// Shows progress and warnings on standard error: a bar on a terminal, else a line every 30 s.
/// With `json`, each is one line of JSON on standard output instead: docs/json.md.
class ConsoleReporter final : public Reporter {
 public:
  ConsoleReporter(Verbosity verbosity, bool json);
  ~ConsoleReporter() override;

  void OnProgress(const Progress& progress) override;
  void OnWarning(std::string_view text) override;

 private:
  void ClearBar();

  const Verbosity verbosity_;
  const bool json_;
  const bool terminal_;
  bool bar_shown_ = false;
  std::chrono::steady_clock::time_point last_;
  size_t warnings_ = 0;
  size_t held_back_ = 0;  // warnings beyond those that a person reads
};

}  // namespace reshard::cli

#endif  // RESHARD_CLI_OUTPUT_H_
