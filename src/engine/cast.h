#ifndef RESHARD_ENGINE_CAST_H_
#define RESHARD_ENGINE_CAST_H_

#include <cstddef>

#include "reshard/dtype.h"

namespace reshard {

/// Converts `n` elements; `src` and `dst` do not overlap, at any alignment. Returns how many finite
/// values became infinite.
using CastFn = size_t (*)(const std::byte* src, std::byte* dst, size_t n);

/// The fastest conversion that this machine has from `from` to `to`; null unless both are castable
/// (IsCastable). A type to itself is a copy.
///
/// Results are those of PyTorch's Tensor.to on a CPU, bit for bit: to nearest, ties to even,
/// subnormals exact, what is too large becomes infinite; float64 goes to the 16-bit types by way of
/// float32, so it is rounded twice. NaN stays NaN with its sign; its other bits are unspecified,
/// as they are in PyTorch. The thread's floating-point mode must be the default one: rounding to
/// nearest, subnormals not flushed to zero.
CastFn FindCast(DType from, DType to);

/// One call of FindCast's function. Both types must be castable.
size_t Cast(DType from, const std::byte* src, DType to, std::byte* dst, size_t n);

}  // namespace reshard

#endif  // RESHARD_ENGINE_CAST_H_
