#include "engine/cast.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/cast_kernels.h"

namespace reshard {
namespace {

constexpr std::array kTypes = {DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64};

// The reference: numbers are doubles, and a type is a set of numbers (precision p, exponents from
// kMinExponent up). No bits are shifted, nothing is shared with the code under test.

struct Format {
  int precision;     // with the leading bit
  int min_exponent;  // of the smallest normal number
  int max_exponent;
  int bits;
};

Format FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return {11, -14, 15, 16};
    case DType::kBFloat16:
      return {8, -126, 127, 16};
    case DType::kFloat32:
      return {24, -126, 127, 32};
    default:
      return {53, -1022, 1023, 64};
  }
}

/// The number of the format nearest to `value`, ties to even.
double Round(double value, const Format& format) {
  if (value == 0 || !std::isfinite(value)) return value;
  const int exponent = std::max(std::ilogb(value), format.min_exponent);
  const int unit = exponent - (format.precision - 1);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  const double largest = std::ldexp(2 - std::ldexp(1, 1 - format.precision), format.max_exponent);
  return std::fabs(rounded) > largest ? std::copysign(HUGE_VAL, value) : rounded;
}

double Decode(uint64_t bits, const Format& format) {
  const int fraction_bits = format.precision - 1;
  const double sign = bits >> (format.bits - 1) != 0 ? -1 : 1;
  const uint64_t exponent_mask = (uint64_t{1} << (format.bits - format.precision)) - 1;
  const auto exponent = static_cast<int>(bits >> fraction_bits & exponent_mask);
  const auto fraction = static_cast<double>(bits & ((uint64_t{1} << fraction_bits) - 1)) *
                        std::ldexp(1, -fraction_bits);
  if (exponent == 0) return sign * std::ldexp(fraction, format.min_exponent);
  if (static_cast<uint64_t>(exponent) == exponent_mask)
    return fraction != 0 ? std::nan("") : sign * HUGE_VAL;
  return sign * std::ldexp(1 + fraction, exponent - 1 + format.min_exponent);
}

uint64_t LoadBits(DType dtype, const std::byte* src) {
  uint64_t bits = 0;
  std::memcpy(&bits, src, static_cast<size_t>(ItemSize(dtype)));
  return bits;
}

double Load(DType dtype, const std::byte* src) {
  return Decode(LoadBits(dtype, src), FormatOf(dtype));
}

/// What PyTorch makes of `value`: everything but float32 <-> float64 goes by way of float32.
double Expected(double value, DType to) {
  const double single = to == DType::kFloat64 ? value : Round(value, FormatOf(DType::kFloat32));
  return Round(single, FormatOf(to));
}

bool Same(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b && std::signbit(a) == std::signbit(b);
}

struct Path {
  const char* name;
  CastFn (*find)(DType from, DType to);
};

std::vector<Path> Paths() {
  std::vector<Path> paths = {{"scalar", cast_kernels::FindScalar}};
  if (cast_kernels::HasAvx2()) paths.push_back({"avx2", cast_kernels::FindAvx2});
  return paths;
}

/// Converts elements of `from` to every other type by every path, and compares.
void CheckAll(DType from, std::span<const std::byte> src) {
  const auto size = static_cast<size_t>(ItemSize(from));
  const size_t n = src.size() / size;
  std::vector<double> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = Load(from, &src[i * size]);
  for (DType to : kTypes) {
    if (to == from) continue;
    std::vector<double> expected(n);
    size_t overflows = 0;
    for (size_t i = 0; i < n; ++i) {
      expected[i] = Expected(values[i], to);
      overflows += std::isinf(expected[i]) && !std::isinf(values[i]);
    }
    const auto to_size = static_cast<size_t>(ItemSize(to));
    for (const Path& path : Paths()) {
      SCOPED_TRACE(std::string(path.name) + " " + std::string(DTypeName(from)) + " to " +
                   std::string(DTypeName(to)));
      std::vector<std::byte> out(n * to_size);
      EXPECT_EQ(path.find(from, to)(src.data(), out.data(), n), overflows);
      int shown = 0;
      for (size_t i = 0; i < n && shown < 5; ++i) {
        if (Same(Load(to, &out[i * to_size]), expected[i])) continue;
        ++shown;
        ADD_FAILURE() << std::hex << LoadBits(from, &src[i * size]) << " (" << values[i]
                      << ") became " << LoadBits(to, &out[i * to_size]) << ", not " << expected[i];
      }
    }
  }
}

template <typename T>
void CheckAll(DType from, const std::vector<T>& elements) {
  CheckAll(from, std::as_bytes(std::span(elements)));
}

TEST(CastTest, TheReferenceAgreesWithTheMachine) {
  for (uint32_t bits : {0u, 1u, 0x80000000u, 0x007FFFFFu, 0x00800000u, 0x3F800001u, 0x7F7FFFFFu,
                        0xFF800000u, 0x7FC00000u, 0x42280000u})
    EXPECT_TRUE(Same(Decode(bits, FormatOf(DType::kFloat32)), std::bit_cast<float>(bits))) << bits;
  for (double value : {1.0 + 0x1p-24, 1.0 + 0x3p-24, 0x1p-149, 0x1p-150, 0x1.8p-149, 0x1.FFFFFFp127,
                       0x1.FFFFFEFFFp127, -3.1, 1e300})
    EXPECT_TRUE(Same(Round(value, FormatOf(DType::kFloat32)), static_cast<float>(value))) << value;
}

TEST(CastTest, EveryHalf) {
  std::vector<uint16_t> all(1 << 16);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  CheckAll(DType::kFloat16, all);
  CheckAll(DType::kBFloat16, all);
}

TEST(CastTest, Float32AroundEveryRoundingBoundary) {
  // The bits that float16 and bfloat16 drop are the low 13 and 16; for subnormals, more of them.
  std::vector<uint32_t> sample;
  for (uint32_t top = 0; top < 1 << 9; ++top)
    for (int bit = 0; bit <= 23; ++bit)
      for (uint32_t step : {0u, 1u, ~0u, 1u << 22, 3u << 21, 0x2AAAAAu, (1u << bit) >> 1})
        for (uint32_t near : {0u, 1u, ~0u})
          sample.push_back(top << 23 | ((((1u << bit) + step) + near) & 0x7FFFFF));
  CheckAll(DType::kFloat32, sample);
}

TEST(CastTest, Float32Sweep) {
  std::vector<uint32_t> sample;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 2027)
    sample.push_back(static_cast<uint32_t>(bits));
  CheckAll(DType::kFloat32, sample);
}

TEST(CastTest, Float64RoundsByWayOfFloat32) {
  std::vector<uint64_t> sample;
  std::mt19937_64 random(20240601);
  const auto around = [&](double value) {
    const auto bits = std::bit_cast<uint64_t>(value);
    for (uint64_t step : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}, uint64_t{1} << 28,
                          uint64_t{1} << 29, (uint64_t{1} << 29) - 1, (uint64_t{1} << 28) + 1})
      for (uint64_t sign : {uint64_t{0}, uint64_t{1} << 63}) sample.push_back((bits + step) ^ sign);
  };
  for (int exponent = -1074; exponent < 1024; ++exponent) {
    around(std::ldexp(1.0, exponent));
    around(std::ldexp(1.5, exponent));
    for (int i = 0; i < 16; ++i)
      around(std::ldexp(1.0 + static_cast<double>(random() >> (i * 4)) * 0x1p-64, exponent));
  }
  for (double value : {0.0, HUGE_VAL, 65504.0, 65519.999, 65520.0, 0x1.FEp127, 0x1.FFp127,
                       0x1.FFFFFEp127, 0x1.FFFFFEFFFFFFFp127, 0x1.FFFFFFp127, 0x1p-24, 0x1p-25,
                       0x1p-133, 0x1p-134, 1.0 + 0x1p-11 + 0x1p-30})
    around(value);
  for (int i = 0; i < 50'000; ++i) sample.push_back(random());
  sample.push_back(0x7FF8000000000000);
  sample.push_back(0xFFF0000000000001);  // a NaN whose payload does not survive narrowing
  CheckAll(DType::kFloat64, sample);
}

TEST(CastTest, NansOfNarrowTypesDoNotBecomeInfinite) {
  std::vector<uint32_t> nans;
  for (int bit = 0; bit < 23; ++bit)
    for (uint32_t sign : {0u, 0x80000000u}) nans.push_back(sign | 0x7F800000 | 1u << bit);
  nans.push_back(0x7FFFFFFF);
  nans.push_back(0xFFFFFFFF);
  CheckAll(DType::kFloat32, nans);
}

TEST(CastTest, AnyLengthAndAlignmentAndNothingElseIsWritten) {
  std::mt19937 random(7);
  for (const Path& path : Paths())
    for (DType from : kTypes)
      for (DType to : kTypes)
        for (size_t n = 0; from != to && n < 40; ++n) {
          const auto from_size = static_cast<size_t>(ItemSize(from));
          const auto to_size = static_cast<size_t>(ItemSize(to));
          std::vector<std::byte> src(n * from_size + 1);
          for (std::byte& byte : src) byte = static_cast<std::byte>(random());
          std::vector<std::byte> dst(n * to_size + 2, std::byte{0x5A});
          path.find(from, to)(src.data() + 1, dst.data() + 1, n);
          EXPECT_EQ(dst.front(), std::byte{0x5A});
          EXPECT_EQ(dst.back(), std::byte{0x5A});
          for (size_t i = 0; i < n; ++i)
            ASSERT_TRUE(Same(Load(to, &dst[1 + i * to_size]),
                             Expected(Load(from, &src[1 + i * from_size]), to)))
                << path.name << " " << DTypeName(from) << " " << DTypeName(to) << " " << i;
        }
}

TEST(CastTest, CountsFiniteValuesThatBecameInfinite) {
  // Two blocks and a tail; infinities of the source do not count.
  std::vector<float> src(2 * 1024 + 5, 1.0f);
  src[3] = 70000.0f;
  src[1023] = -65520.0f;
  src[1024] = 65519.0f;
  src[1500] = HUGE_VALF;
  src[1501] = std::nanf("");
  src.back() = 1e38f;
  std::vector<uint16_t> dst(src.size());
  const auto cast = [&](DType to) {
    return Cast(DType::kFloat32, std::as_bytes(std::span(src)).data(), to,
                std::as_writable_bytes(std::span(dst)).data(), src.size());
  };
  EXPECT_EQ(cast(DType::kFloat16), 3u);
  EXPECT_EQ(cast(DType::kBFloat16), 0u);
  src[0] = std::numeric_limits<float>::max();
  EXPECT_EQ(cast(DType::kBFloat16), 1u);
  for (const Path& path : Paths())
    EXPECT_EQ(path.find(DType::kFloat32, DType::kFloat16)(
                  std::as_bytes(std::span(src)).data(),
                  std::as_writable_bytes(std::span(dst)).data(), src.size()),
              4u);
}

TEST(CastTest, ToItselfIsACopyAndOtherTypesHaveNone) {
  const uint16_t nan = 0x7C01;
  uint16_t copy = 0;
  EXPECT_EQ(Cast(DType::kFloat16, reinterpret_cast<const std::byte*>(&nan), DType::kFloat16,
                 reinterpret_cast<std::byte*>(&copy), 1),
            0u);
  EXPECT_EQ(copy, nan);
  for (DType type : kTypes) {
    EXPECT_NE(FindCast(type, type), nullptr);
    EXPECT_EQ(FindCast(type, DType::kInt32), nullptr);
    EXPECT_EQ(FindCast(DType::kFloat8E5M2, type), nullptr);
  }
}

}  // namespace
}  // namespace reshard
