#ifndef RESHARD_ENGINE_STRIDED_H_
#define RESHARD_ENGINE_STRIDED_H_

#include <cstddef>
#include <cstdint>

namespace reshard {

/// Copies `count` elements of `size` bytes; strides in elements.
void CopyStrided(const std::byte* src, int64_t src_stride, std::byte* dst, int64_t dst_stride,
                 int64_t count, int64_t size);

}  // namespace reshard

#endif  // RESHARD_ENGINE_STRIDED_H_
