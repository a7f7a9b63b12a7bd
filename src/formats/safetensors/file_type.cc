#include "formats/safetensors/file_type.h"

#include <algorithm>
#include <array>

#include "formats/safetensors/safetensors.h"

namespace reshard::safetensors {
namespace {

constexpr std::array<FileType, 22> kTypes = {{
    {"BOOL", DType::kBool, 8, 1, 0},
    {"F4", DType::kFloat4E2M1FNx2, 4, 2, 1},
    {"F6_E2M3", DType::kFloat6E2M3x4, 6, 4, 2},
    {"F6_E3M2", DType::kFloat6E3M2x4, 6, 4, 3},
    {"U8", DType::kUInt8, 8, 1, 4},
    {"I8", DType::kInt8, 8, 1, 5},
    {"F8_E5M2", DType::kFloat8E5M2, 8, 1, 6},
    {"F8_E4M3", DType::kFloat8E4M3FN, 8, 1, 7},
    {"F8_E8M0", DType::kFloat8E8M0FNU, 8, 1, 8},
    {"F8_E4M3FNUZ", DType::kFloat8E4M3FNUZ, 8, 1, 9},
    {"F8_E5M2FNUZ", DType::kFloat8E5M2FNUZ, 8, 1, 10},
    {"I16", DType::kInt16, 16, 1, 11},
    {"U16", DType::kUInt16, 16, 1, 12},
    {"F16", DType::kFloat16, 16, 1, 13},
    {"BF16", DType::kBFloat16, 16, 1, 14},
    {"I32", DType::kInt32, 32, 1, 15},
    {"U32", DType::kUInt32, 32, 1, 16},
    {"F32", DType::kFloat32, 32, 1, 17},
    {"C64", DType::kComplex64, 64, 1, 18},
    {"F64", DType::kFloat64, 64, 1, 19},
    {"I64", DType::kInt64, 64, 1, 20},
    {"U64", DType::kUInt64, 64, 1, 21},
}};

}  // namespace

const FileType* FindFileType(std::string_view name) {
  const auto it = std::ranges::find(kTypes, name, &FileType::name);
  return it == kTypes.end() ? nullptr : &*it;
}

const FileType* FindFileType(DType dtype) {
  const auto it = std::ranges::find(kTypes, dtype, &FileType::dtype);
  return it == kTypes.end() ? nullptr : &*it;
}

bool CanHold(DType dtype) { return FindFileType(dtype) != nullptr; }

}  // namespace reshard::safetensors
