#include "engine/cast_scalar.h"

namespace reshard::cast_kernels {
namespace {

template <typename From, typename To>
struct ScalarKernel {
  static size_t Run(const std::byte* src, std::byte* dst, size_t n) {
    return CastOneByOne<From, To>(src, dst, n);
  }
};

}  // namespace

CastFn FindScalar(DType from, DType to) { return Find<ScalarKernel>(from, to); }

}  // namespace reshard::cast_kernels
