#include "reshard/text.h"

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace reshard {
namespace {

// Length of the UTF-8 sequence that begins `text`, if it is whole and well-formed; else 0.
size_t SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const size_t length = byte(0) < 0x80 ? 1
                        : byte(0) >= 0xc2 && byte(0) < 0xe0 ? 2
                        : (byte(0) & 0xf0) == 0xe0 ? 3
                        : byte(0) >= 0xf0 && byte(0) < 0xf5 ? 4
                                                            : 0;
  if (length == 0 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  return length;
}

// How many bytes "GB", "g", "GiB" or "Gi" stand for; 0 for no unit. A small b is none: people write
// Gb for gigabits.
double UnitBytes(std::string_view name) {
  if (name.ends_with('B')) name.remove_suffix(1);
  if (name.empty()) return 1;
  constexpr std::string_view kPrefixes = "KMGT";
  const size_t power = kPrefixes.find(static_cast<char>(std::toupper(static_cast<unsigned char>(name[0]))));
  const bool binary = name.substr(1) == "i";
  if (power == std::string_view::npos || (name.size() > 1 && !binary)) return 0;
  return std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
}

}  // namespace

std::string Printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    const auto first = static_cast<unsigned char>(text[0]);
    // C0 controls and DEL; C1 controls are the sequences C2 80 to C2 9F.
    const bool control = first < 0x20 || first == 0x7f ||
                         (length == 2 && first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0);
    if (length == 0 || control) {
      out += fmt::format("\\x{:02x}", first);
      text.remove_prefix(1);
    } else {
      out += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return out;
}

Result<uint64_t> ParseByteSize(std::string_view text) {
  const auto fault = [&] {
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .found = fmt::format("'{}' is no size", Printable(text)),
                                 .expected = "a number of bytes such as 5GB, 5G, 512MiB or 2000000000"});
  };
  uint64_t whole = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), whole);
  if (code == std::errc() && end == text.data() + text.size() && whole > 0) return whole;

  double number = 0;
  const auto [rest, fault_code] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (fault_code != std::errc()) return fault();
  std::string_view name = text.substr(static_cast<size_t>(rest - text.data()));
  if (name.starts_with(' ')) name.remove_prefix(1);
  const double bytes = std::floor(number * UnitBytes(name));
  if (!(bytes >= 1 && bytes < 0x1p63)) return fault();
  return static_cast<uint64_t>(bytes);
}

std::string FormatByteSize(uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  constexpr std::array kNames = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (value /= 1000; value >= 999.5 && unit + 1 < kNames.size(); value /= 1000) ++unit;
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f} {}", value, decimals, kNames[unit]);
}

}  // namespace reshard
