#ifndef RESHARD_BASE_ENDIAN_H_
#define RESHARD_BASE_ENDIAN_H_

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <string>

namespace reshard {

static_assert(std::endian::native == std::endian::little,
              "tensor data is little-endian and copied as it is");

/// Unaligned little-endian access. The caller has checked that sizeof(T) bytes are there.
template <std::integral T>
inline T LoadLittle(const void* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

template <std::integral T>
inline void StoreLittle(T value, void* bytes) {
  std::memcpy(bytes, &value, sizeof value);
}

template <std::integral T>
inline void AppendLittle(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace reshard

#endif  // RESHARD_BASE_ENDIAN_H_
