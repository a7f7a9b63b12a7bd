#include "cli/output.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include <fmt/format.h>

#include "cli/json.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

constexpr auto kLineInterval = std::chrono::seconds(30);
constexpr auto kJsonInterval = std::chrono::seconds(1);
constexpr size_t kMaxWarnings = 20;

// stdio notes that a write to stdout has failed, but not why.
int output_error = 0;

std::string FormatSeconds(double seconds) {
  const auto whole = static_cast<uint64_t>(std::clamp(seconds, 0.0, 359999.0));
  if (whole >= 3600) return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}s", whole);
}

std::string Describe(const Progress& progress) {
  const double fresh = static_cast<double>(progress.bytes_done - progress.bytes_resumed);
  const double rate = progress.seconds > 0 ? fresh / progress.seconds : 0;
  const double left = static_cast<double>(progress.bytes_total - progress.bytes_done);
  std::string text =
      fmt::format("{} of {}  {}/s", FormatByteSize(progress.bytes_done),
                  FormatByteSize(progress.bytes_total), FormatByteSize(static_cast<uint64_t>(rate)));
  if (rate > 0 && left > 0) text += fmt::format("  ETA {}", FormatSeconds(left / rate));
  return text;
}

// How many columns the terminal at the other end of standard error has.
size_t Columns() {
  struct winsize size {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// "[########       ]  53%  1.20 GB of 2.26 GB  ...", within `columns`: the bar gives way first, then
// the end of the text. The last column stays free, where some terminals begin a new line.
std::string BarLine(const Progress& progress, size_t columns) {
  constexpr size_t kWidest = 28, kNarrowest = 8;
  const double total = static_cast<double>(progress.bytes_total);
  const double done =
      total > 0 ? std::min(1.0, static_cast<double>(progress.bytes_done) / total) : 1.0;
  std::string line = fmt::format("{:3}%  {}", static_cast<int>(100 * done), Describe(progress));
  const size_t room = columns > line.size() + 4 ? columns - line.size() - 4 : 0;
  if (room >= kNarrowest) {
    const size_t width = std::min(room, kWidest);
    const std::string filled(static_cast<size_t>(static_cast<double>(width) * done), '#');
    line = fmt::format("[{:<{}}] {}", filled, width, line);
  }
  return line.substr(0, columns > 0 ? columns - 1 : 0);
}

}  // namespace

void Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) < text.size() && output_error == 0)
    output_error = errno;
}

int FlushOutput() {
  if (std::fflush(stdout) != 0 && output_error == 0) output_error = errno;
  return output_error;
}

// What was printed comes first where both go to one place, as with 2>&1.
void Say(std::string_view text) {
  (void)FlushOutput();
  std::fwrite(text.data(), 1, text.size(), stderr);
}

void PrintError(const Error& error) {
  Say(fmt::format("error[{}]: {}\n", ErrorKindName(error.kind), error.ToString()));
}

ConsoleReporter::ConsoleReporter(Verbosity verbosity, bool json)
    : verbosity_(verbosity),
      json_(json),
      terminal_(::isatty(STDERR_FILENO) != 0),
      last_(std::chrono::steady_clock::now()) {}

ConsoleReporter::~ConsoleReporter() {
  ClearBar();
  if (held_back_ == 0) return;
  // Without allocating: it may be the lack of memory that brings us here.
  std::array<char, 80> text;
  const auto end = fmt::format_to_n(text.data(), text.size(),
                                    "warning: {} more like these; -v shows them all\n", held_back_);
  Say({text.data(), end.size});
}

void ConsoleReporter::ClearBar() {
  if (bar_shown_) Say("\r\033[K");
  bar_shown_ = false;
}

void ConsoleReporter::OnProgress(const Progress& progress) {
  if (verbosity_ == Verbosity::kQuiet && !json_) return;
  const auto now = std::chrono::steady_clock::now();
  if (json_) {
    if (now - last_ < kJsonInterval && progress.bytes_done < progress.bytes_total) return;
    Print(ProgressJson(progress) + "\n");
    FlushOutput();
  } else if (terminal_) {
    Say(fmt::format("\r{}\033[K", BarLine(progress, Columns())));
    bar_shown_ = true;
  } else {
    if (now - last_ < kLineInterval) return;
    Say(Describe(progress) + "\n");
  }
  last_ = now;
}

void ConsoleReporter::OnWarning(std::string_view text) {
  if (json_) return Print(WarningJson(text) + "\n");
  if (verbosity_ == Verbosity::kQuiet) return;
  if (++warnings_ > kMaxWarnings && verbosity_ != Verbosity::kVerbose) {
    ++held_back_;
    return;
  }
  ClearBar();
  Say(fmt::format("warning: {}\n", Printable(text)));
}

}  // namespace reshard::cli
