#ifndef RESHARD_ENGINE_DEQUANTIZE_KERNELS_H_
#define RESHARD_ENGINE_DEQUANTIZE_KERNELS_H_

#include <cstddef>

#include "reshard/dtype.h"

/// The implementations behind Dequantizer, for it and for tests.
namespace reshard::dequantize_kernels {

/// products[i] = values[i] * scale in float32, the values being of a float8 type; NaN stays NaN.
using MultiplyFn = void (*)(const std::byte* values, float scale, float* products, size_t n);

/// Any machine, any float8 type.
MultiplyFn FindScalar(DType dtype);

/// AVX2 and F16C. Null for the fnuz types; call the function only where cast_kernels::HasAvx2().
MultiplyFn FindAvx2(DType dtype);

}  // namespace reshard::dequantize_kernels

#endif  // RESHARD_ENGINE_DEQUANTIZE_KERNELS_H_
