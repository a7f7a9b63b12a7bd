#include "reshard/dtype.h"

#include <array>

namespace reshard {
namespace {

struct Info {
  std::string_view name;
  int64_t size;
};

// In the order of the enum.
constexpr std::array<Info, kDTypeCount> kInfo = {{
    {"bool", 1},           {"uint8", 1},           {"int8", 1},
    {"uint16", 2},         {"int16", 2},           {"uint32", 4},
    {"int32", 4},          {"uint64", 8},          {"int64", 8},
    {"float16", 2},        {"bfloat16", 2},        {"float32", 4},
    {"float64", 8},        {"complex32", 4},       {"complex64", 8},
    {"complex128", 16},    {"float8_e4m3fn", 1},   {"float8_e5m2", 1},
    {"float8_e4m3fnuz", 1}, {"float8_e5m2fnuz", 1}, {"float8_e8m0fnu", 1},
    {"float4_e2m1fn_x2", 1}, {"float6_e2m3_x4", 3}, {"float6_e3m2_x4", 3},
    {"qint8", 1},          {"quint8", 1},          {"qint32", 4},
    {"quint4x2", 1},       {"quint2x4", 1},        {"bits8", 1},
    {"bits16", 2},         {"bits1x8", 1},         {"bits2x4", 1},
    {"bits4x2", 1},
}};

}  // namespace

int64_t ItemSize(DType dtype) { return kInfo[static_cast<size_t>(dtype)].size; }

std::string_view DTypeName(DType dtype) { return kInfo[static_cast<size_t>(dtype)].name; }

std::optional<DType> ParseDType(std::string_view name) {
  for (size_t i = 0; i < kInfo.size(); ++i)
    if (kInfo[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}

bool IsCastable(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16 || dtype == DType::kFloat32 ||
         dtype == DType::kFloat64;
}

bool IsFloat8(DType dtype) {
  return dtype == DType::kFloat8E4M3FN || dtype == DType::kFloat8E5M2 ||
         dtype == DType::kFloat8E4M3FNUZ || dtype == DType::kFloat8E5M2FNUZ;
}

bool IsScale(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16 ||
         dtype == DType::kFloat8E8M0FNU;
}

}  // namespace reshard
