#include "engine/strided.h"

#include <cstring>

namespace reshard {
namespace {

template <size_t kSize>
void CopyElements(const std::byte* src, int64_t src_stride, std::byte* dst, int64_t dst_stride,
                  int64_t count) {
  const int64_t size = kSize;
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(dst + i * dst_stride * size, src + i * src_stride * size, kSize);
}

}  // namespace

void CopyStrided(const std::byte* src, int64_t src_stride, std::byte* dst, int64_t dst_stride,
                 int64_t count, int64_t size) {
  switch (size) {
    case 1:
      return CopyElements<1>(src, src_stride, dst, dst_stride, count);
    case 2:
      return CopyElements<2>(src, src_stride, dst, dst_stride, count);
    case 3:
      return CopyElements<3>(src, src_stride, dst, dst_stride, count);
    case 4:
      return CopyElements<4>(src, src_stride, dst, dst_stride, count);
    case 8:
      return CopyElements<8>(src, src_stride, dst, dst_stride, count);
    case 16:
      return CopyElements<16>(src, src_stride, dst, dst_stride, count);
  }
}

}  // namespace reshard
