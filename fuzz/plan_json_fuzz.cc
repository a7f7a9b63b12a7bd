// Any text as a stored plan: the request that comes out is written and read back as the same one.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "reshard/convert.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto stored = reshard::ParsePlanJson(text, "plan.json");
  if (!stored) return 0;
  const std::string written = reshard::PlanJson(stored->request, {});
  const auto again = reshard::ParsePlanJson(written, "plan.json");
  if (!again || reshard::PlanJson(again->request, {}) != written) std::abort();
  return 0;
}
