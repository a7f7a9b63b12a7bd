#include "engine/cast.h"

#include <cassert>
#include <cstdint>
#include <cstring>

#include "engine/cast_kernels.h"

namespace reshard {
namespace {

template <size_t kItemSize>
size_t Copy(const std::byte* src, std::byte* dst, size_t n) {
  if (n > 0) std::memcpy(dst, src, n * kItemSize);
  return 0;
}

CastFn FindCopy(DType dtype) {
  switch (ItemSize(dtype)) {
    case 2:
      return Copy<2>;
    case 4:
      return Copy<4>;
    case 8:
      return Copy<8>;
    default:
      return nullptr;
  }
}

}  // namespace

CastFn FindCast(DType from, DType to) {
  if (!IsCastable(from) || !IsCastable(to)) return nullptr;
  if (from == to) return FindCopy(from);
  return cast_kernels::HasAvx2() ? cast_kernels::FindAvx2(from, to)
                                 : cast_kernels::FindScalar(from, to);
}

size_t Cast(DType from, const std::byte* src, DType to, std::byte* dst, size_t n) {
  const CastFn cast = FindCast(from, to);
  assert(cast != nullptr);
  return cast(src, dst, n);
}

}  // namespace reshard
