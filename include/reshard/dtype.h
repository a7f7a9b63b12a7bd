#ifndef RESHARD_DTYPE_H_
#define RESHARD_DTYPE_H_

#include <cstdint>
#include <optional>
#include <string_view>

namespace reshard {

/// Element types of tensors, named as PyTorch names them. Packed types (two 4-bit values in a
/// byte and the like) are one element per storage unit, as in PyTorch.
enum class DType : uint8_t {
  kBool, kUInt8, kInt8, kUInt16, kInt16, kUInt32, kInt32, kUInt64, kInt64,
  kFloat16, kBFloat16, kFloat32, kFloat64,
  kComplex32, kComplex64, kComplex128,
  kFloat8E4M3FN, kFloat8E5M2, kFloat8E4M3FNUZ, kFloat8E5M2FNUZ, kFloat8E8M0FNU,
  kFloat4E2M1FNx2,                 ///< 2 values in 1 byte
  kFloat6E2M3x4, kFloat6E3M2x4,    ///< 4 values in 3 bytes; safetensors only
  kQInt8, kQUInt8, kQInt32, kQUInt4x2, kQUInt2x4,
  kBits8, kBits16, kBits1x8, kBits2x4, kBits4x2,
};
inline constexpr int kDTypeCount = static_cast<int>(DType::kBits4x2) + 1;

/// Bytes of one element.
int64_t ItemSize(DType dtype);

/// PyTorch's name without the `torch.` prefix, e.g. "bfloat16".
std::string_view DTypeName(DType dtype);

/// The inverse of `DTypeName`; nothing for a name that no element type has.
std::optional<DType> ParseDType(std::string_view name);

/// float16, bfloat16, float32, float64: the types that a cast applies to.
bool IsCastable(DType dtype);

/// float8_e4m3fn, float8_e5m2 and their fnuz kinds: the values of quantized weights.
bool IsFloat8(DType dtype);

/// float32, bfloat16, float16, float8_e8m0fnu: the scales of quantized weights.
bool IsScale(DType dtype);

}  // namespace reshard

#endif  // RESHARD_DTYPE_H_
