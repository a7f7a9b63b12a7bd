#ifndef RESHARD_TEXT_H_
#define RESHARD_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "reshard/error.h"

namespace reshard {

/// `text` with control characters and bytes that are not UTF-8 as \xNN: names come from files, and
/// a terminal must not obey them.
std::string Printable(std::string_view text);

/// Bytes from "5GB", "5G", "5GiB", "500 kB" or plain digits. Units: K, M, G, T (powers of 1000), Ki,
/// Mi, Gi, Ti (powers of 1024), the first letter in either case, a B behind it or not; a fraction
/// such as 1.5GB is taken. At least 1. Errors are of kind kUsage.
Result<uint64_t> ParseByteSize(std::string_view text);

/// Three digits and a decimal unit: "1.20 GB", "512 B".
std::string FormatByteSize(uint64_t bytes);

}  // namespace reshard

#endif  // RESHARD_TEXT_H_
