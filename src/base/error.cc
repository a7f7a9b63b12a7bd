#include "reshard/error.h"

#include <fmt/format.h>

#include "reshard/text.h"

namespace reshard {

std::string Error::ToString() const {
  std::string text = Printable(found);
  auto line = [&](std::string_view label, std::string_view value) {
    if (!value.empty()) text += fmt::format("\n  {:<9} {}", label, Printable(value));
  };
  line("file", offset && !file.empty() ? fmt::format("{} (byte {})", file, *offset) : file);
  line("tensor", tensor);
  line("expected", expected);
  line("help", help);
  return text;
}

int ExitCode(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kAnswerNo: return 1;
    case ErrorKind::kUsage: return 2;
    case ErrorKind::kSource: return 3;
    case ErrorKind::kMapping: return 4;
    case ErrorKind::kDestination: return 5;
    case ErrorKind::kPartial: return 6;
    case ErrorKind::kInternal: return 70;
    case ErrorKind::kInterrupted: return 130;
  }
  return 70;
}

std::string_view ErrorKindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kAnswerNo: return "answer-no";
    case ErrorKind::kUsage: return "usage";
    case ErrorKind::kSource: return "source";
    case ErrorKind::kMapping: return "mapping";
    case ErrorKind::kDestination: return "destination";
    case ErrorKind::kPartial: return "partial";
    case ErrorKind::kInternal: return "internal";
    case ErrorKind::kInterrupted: return "interrupted";
  }
  return "internal";
}

}  // namespace reshard
