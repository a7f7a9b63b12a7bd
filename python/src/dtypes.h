#ifndef RESHARD_PYTHON_DTYPES_H_
#define RESHARD_PYTHON_DTYPES_H_

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <string>
#include <vector>

#include "bindings.h"
#include "reshard/dtype.h"
#include "reshard/request.h"

namespace reshard::python {

inline std::string Name(DType dtype) { return std::string(DTypeName(dtype)); }

inline DType Parse(const std::string& name) {
  const auto dtype = ParseDTypeWord(name);
  if (!dtype)
    Raise({.kind = ErrorKind::kUsage,
           .found = "there is no element type '" + name + "'",
           .expected = "a name that PyTorch uses, such as bfloat16"});
  return *dtype;
}

/// The DLPack code of a type; raises where DLPack has none.
inline nanobind::dlpack::dtype DlpackType(DType dtype) {
  using Code = nanobind::dlpack::dtype_code;
  const auto make = [&](Code code) {
    return nanobind::dlpack::dtype{static_cast<uint8_t>(code),
                                   static_cast<uint8_t>(8 * ItemSize(dtype)), 1};
  };
  switch (dtype) {
    case DType::kBool: return make(Code::Bool);
    case DType::kUInt8: case DType::kUInt16: case DType::kUInt32: case DType::kUInt64:
      return make(Code::UInt);
    case DType::kInt8: case DType::kInt16: case DType::kInt32: case DType::kInt64:
      return make(Code::Int);
    case DType::kFloat16: case DType::kFloat32: case DType::kFloat64: return make(Code::Float);
    case DType::kBFloat16: return make(Code::Bfloat);
    case DType::kComplex32: case DType::kComplex64: case DType::kComplex128:
      return make(Code::Complex);
    case DType::kFloat8E4M3FN: return make(Code::Float8_E4M3FN);
    case DType::kFloat8E5M2: return make(Code::Float8_E5M2);
    case DType::kFloat8E4M3FNUZ: return make(Code::Float8_E4M3FNUZ);
    case DType::kFloat8E5M2FNUZ: return make(Code::Float8_E5M2FNUZ);
    case DType::kFloat8E8M0FNU: return make(Code::Float8_E8M0FNU);
    case DType::kFloat4E2M1FNx2:
      return {static_cast<uint8_t>(Code::Float4_E2M1FN), 4, 2};
    default: break;
  }
  Raise({.kind = ErrorKind::kUsage,
         .found = "tensors of " + Name(dtype) + " cannot be handed over",
         .expected = "a type that DLPack has"});
}

template <typename T>
nanobind::tuple ToTuple(const std::vector<T>& values) {
  nanobind::list list;
  for (const T& value : values) list.append(value);
  return nanobind::tuple(list);
}

}  // namespace reshard::python

#endif  // RESHARD_PYTHON_DTYPES_H_
