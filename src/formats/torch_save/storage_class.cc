#include "formats/torch_save/storage_class.h"

#include <array>

namespace reshard::torch_save {
namespace {

struct StorageClass {
  std::string_view name;
  DType dtype;
};

constexpr std::array<StorageClass, 17> kStorageClasses = {{
    {"FloatStorage", DType::kFloat32},
    {"BFloat16Storage", DType::kBFloat16},
    {"HalfStorage", DType::kFloat16},
    {"DoubleStorage", DType::kFloat64},
    {"LongStorage", DType::kInt64},
    {"IntStorage", DType::kInt32},
    {"ShortStorage", DType::kInt16},
    {"CharStorage", DType::kInt8},
    {"ByteStorage", DType::kUInt8},
    {"BoolStorage", DType::kBool},
    {"ComplexDoubleStorage", DType::kComplex128},
    {"ComplexFloatStorage", DType::kComplex64},
    {"QInt8Storage", DType::kQInt8},
    {"QUInt8Storage", DType::kQUInt8},
    {"QInt32Storage", DType::kQInt32},
    {"QUInt4x2Storage", DType::kQUInt4x2},
    {"QUInt2x4Storage", DType::kQUInt2x4},
}};

}  // namespace

std::optional<DType> StorageClassDType(std::string_view name) {
  for (const StorageClass& known : kStorageClasses)
    if (known.name == name) return known.dtype;
  return std::nullopt;
}

std::optional<std::string_view> StorageClassName(DType dtype) {
  for (const StorageClass& known : kStorageClasses)
    if (known.dtype == dtype) return known.name;
  return std::nullopt;
}

}  // namespace reshard::torch_save
