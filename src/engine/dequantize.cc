#include "engine/dequantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/cast_kernels.h"
#include "engine/strided.h"
#include "view/view.h"

namespace reshard {
namespace {

// Elements that are decoded, multiplied and rounded at once.
constexpr int64_t kBatch = 256;

// No finite value of a float8 type is larger.
constexpr float kLargest = 57344.0F;

// How the bits of a float8 type are read: the sign, the exponent, `mantissa` bits.
struct Format {
  int mantissa;
  int bias;
  enum { kFinite, kIeee, kUnsignedZero } specials;  // but for a NaN or two: none; as IEEE 754; fnuz
};

float Decode(Format format, unsigned bits) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  const unsigned magnitude = bits & 0x7f;
  const int exponent = static_cast<int>(magnitude >> format.mantissa);
  const unsigned fraction = magnitude & ((1u << format.mantissa) - 1);
  const int top = 0x7f >> format.mantissa;
  if (format.specials == Format::kUnsignedZero && bits == 0x80) return kNaN;
  if (format.specials == Format::kFinite && magnitude == 0x7f) return kNaN;
  if (format.specials == Format::kIeee && exponent == top && fraction != 0) return kNaN;
  float value;
  if (format.specials == Format::kIeee && exponent == top)
    value = std::numeric_limits<float>::infinity();
  else if (exponent == 0)
    value = std::ldexp(static_cast<float>(fraction), 1 - format.bias - format.mantissa);
  else
    value = std::ldexp(static_cast<float>(fraction + (1u << format.mantissa)),
                       exponent - format.bias - format.mantissa);
  return bits & 0x80 ? -value : value;
}

std::array<float, 256> DecodeAll(Format format) {
  std::array<float, 256> values;
  for (unsigned bits = 0; bits < 256; ++bits) values[bits] = Decode(format, bits);
  return values;
}

std::array<float, 256> DecodeExponents() {
  std::array<float, 256> values;
  for (int bits = 0; bits < 255; ++bits) values[static_cast<size_t>(bits)] = std::ldexp(1.0F, bits - 127);
  values[255] = std::numeric_limits<float>::quiet_NaN();
  return values;
}

template <DType kType>
void MultiplyByTable(const std::byte* values, float scale, float* products, size_t n) {
  const auto& decoded = Float8Values(kType);
  for (size_t i = 0; i < n; ++i) products[i] = decoded[std::to_integer<size_t>(values[i])] * scale;
}

dequantize_kernels::MultiplyFn FindMultiply(DType dtype) {
  const auto fast = cast_kernels::HasAvx2() ? dequantize_kernels::FindAvx2(dtype) : nullptr;
  return fast ? fast : dequantize_kernels::FindScalar(dtype);
}

}  // namespace

dequantize_kernels::MultiplyFn dequantize_kernels::FindScalar(DType dtype) {
  switch (dtype) {
    case DType::kFloat8E4M3FN: return MultiplyByTable<DType::kFloat8E4M3FN>;
    case DType::kFloat8E5M2: return MultiplyByTable<DType::kFloat8E5M2>;
    case DType::kFloat8E4M3FNUZ: return MultiplyByTable<DType::kFloat8E4M3FNUZ>;
    default: return MultiplyByTable<DType::kFloat8E5M2FNUZ>;
  }
}

const std::array<float, 256>& Float8Values(DType dtype) {
  static const auto e4m3fn = DecodeAll({3, 7, Format::kFinite});
  static const auto e5m2 = DecodeAll({2, 15, Format::kIeee});
  static const auto e4m3fnuz = DecodeAll({3, 8, Format::kUnsignedZero});
  static const auto e5m2fnuz = DecodeAll({2, 16, Format::kUnsignedZero});
  static const auto e8m0fnu = DecodeExponents();
  switch (dtype) {
    case DType::kFloat8E4M3FN: return e4m3fn;
    case DType::kFloat8E5M2: return e5m2;
    case DType::kFloat8E4M3FNUZ: return e4m3fnuz;
    case DType::kFloat8E5M2FNUZ: return e5m2fnuz;
    default: return e8m0fnu;
  }
}

std::vector<int64_t> PackedStrides(const Region& region) {
  std::vector<int64_t> extents;
  for (const Loop& loop : region.loops) extents.push_back(loop.extent);
  return RowMajorStrides(extents);
}

struct Dequantizer::Nest {
  const Region& region;
  std::span<const int64_t> block;
  const ScaleGrid& scales;
  std::vector<int64_t> counts;   // values that one turn of each loop stands for
  std::vector<int64_t> strides;  // of the scales, by dimension; 0 where there is one

  // The position in the grid of the scale of the value at these coordinates.
  int64_t ScaleAt(std::span<const int64_t> at) const {
    int64_t position = 0;
    for (size_t dim = 0; dim < strides.size(); ++dim)
      if (strides[dim] != 0)
        position += (at[dim] / block[dim] - scales.box.start[dim]) * strides[dim];
    return position;
  }
};

Dequantizer::Dequantizer(DType from, DType to)
    : decoded_(Float8Values(from)),
      multiply_(FindMultiply(from)),
      to_(to),
      cast_(to == DType::kFloat32 ? nullptr : FindCast(DType::kFloat32, to)) {}

size_t Dequantizer::Multiply(const Region& region, const std::byte* values,
                             const ScaleGrid& scales, std::byte* dst) {
  Nest nest{region, region.dequantize->block(), scales, PackedStrides(region), {}};
  nest.strides.resize(region.start.size());
  for (const Loop& loop : scales.box.loops) nest.strides[loop.dim] = loop.dst_stride;
  overflows_ = 0;
  std::vector<int64_t> at = region.start;
  MultiplyLoop(nest, 0, &at, values, dst + region.dst * ItemSize(to_));
  return overflows_;
}

void Dequantizer::MultiplyLoop(const Nest& nest, size_t depth, std::vector<int64_t>* at,
                               const std::byte* values, std::byte* dst) {
  const auto& loops = nest.region.loops;
  if (depth == loops.size())
    return MultiplyRun(values, 1, nest.scales.values[static_cast<size_t>(nest.ScaleAt(*at))], 1, dst);
  const Loop& loop = loops[depth];
  const int64_t size = ItemSize(to_);
  int64_t& place = (*at)[loop.dim];
  const int64_t start = place;
  // The innermost loop goes in runs that have one scale.
  const bool innermost = depth + 1 == loops.size();
  for (int64_t i = 0, count = 1; i < loop.extent; i += count) {
    place = start + i * loop.step;
    const std::byte* from = values + i * nest.counts[depth];
    std::byte* to = dst + i * loop.dst_stride * size;
    if (!innermost) {
      MultiplyLoop(nest, depth + 1, at, from, to);
      continue;
    }
    const int64_t block = nest.block[loop.dim];
    const int64_t left = block - place % block;
    count = std::min(loop.extent - i, (left - 1) / loop.step + 1);
    MultiplyRun(from, count, nest.scales.values[static_cast<size_t>(nest.ScaleAt(*at))],
                loop.dst_stride, to);
  }
  place = start;
}

void Dequantizer::MultiplyRun(const std::byte* values, int64_t count, float scale,
                              int64_t dst_stride, std::byte* dst) {
  const int64_t size = ItemSize(to_);
  const bool overflows = std::isfinite(scale) && std::isinf(scale * kLargest);
  std::array<float, kBatch> products;
  std::array<std::byte, kBatch * sizeof(double)> rounded;
  for (int64_t first = 0; first < count; first += kBatch) {
    const int64_t n = std::min(kBatch, count - first);
    multiply_(values + first, scale, products.data(), static_cast<size_t>(n));
    if (overflows)
      for (int64_t i = 0; i < n; ++i)
        overflows_ += std::isinf(products[static_cast<size_t>(i)]) &&
                      std::isfinite(decoded_[std::to_integer<size_t>(values[first + i])]);
    const auto* bytes = reinterpret_cast<const std::byte*>(products.data());
    std::byte* const to = dst + first * dst_stride * size;
    if (cast_) {
      std::byte* const out = dst_stride == 1 ? to : rounded.data();
      overflows_ += cast_(bytes, out, static_cast<size_t>(n));
      bytes = out;
    }
    if (bytes != to) CopyStrided(bytes, 1, to, dst_stride, n, size);
  }
}

}  // namespace reshard
