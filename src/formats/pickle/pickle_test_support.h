#ifndef RESHARD_FORMATS_PICKLE_PICKLE_TEST_SUPPORT_H_
#define RESHARD_FORMATS_PICKLE_PICKLE_TEST_SUPPORT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/pickle/pickle.h"

namespace reshard::pickle {

/// The value in the notation of tests/data/pickle/make.py. `folded` shows the handles of folded
/// values.
std::string Show(
    const Value& value, const std::function<std::string(uint64_t)>& folded = [](uint64_t handle) {
      return "folded " + std::to_string(handle);
    });

/// A file of tests/data.
std::string ReadTestData(std::string_view path);
std::vector<std::string> ReadTestLines(std::string_view path);

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_PICKLE_TEST_SUPPORT_H_
