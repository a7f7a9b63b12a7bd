#ifndef RESHARD_CLI_TOTALS_H_
#define RESHARD_CLI_TOTALS_H_

#include <cstdint>
#include <map>
#include <vector>

#include "reshard/catalog.h"

namespace reshard::cli {

/// Sums over tensors.
struct Totals {
  struct OfDType {
    uint64_t tensors = 0;
    uint64_t bytes = 0;
  };
  uint64_t tensors = 0;
  uint64_t elements = 0;
  uint64_t bytes = 0;
  uint64_t chunks = 0;
  std::map<DType, OfDType> by_dtype;
};

inline Totals TotalsOf(const std::vector<const Tensor*>& tensors) {
  Totals totals;
  for (const Tensor* tensor : tensors) {
    const auto bytes = static_cast<uint64_t>(tensor->byte_size());
    ++totals.tensors;
    totals.elements += static_cast<uint64_t>(tensor->numel());
    totals.bytes += bytes;
    totals.chunks += tensor->chunk_count;
    Totals::OfDType& of = totals.by_dtype[tensor->dtype];
    ++of.tensors;
    of.bytes += bytes;
  }
  return totals;
}

}  // namespace reshard::cli

#endif  // RESHARD_CLI_TOTALS_H_
