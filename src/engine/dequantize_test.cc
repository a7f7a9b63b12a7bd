#include "engine/dequantize.h"
#include "engine/cast_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

namespace reshard {
namespace {

// The corners of each type, from its definition: OCP 8-bit floating point 1.0, and its fnuz kinds.
TEST(Float8ValuesTest, TheCornersOfEachType) {
  const auto value = [](DType dtype, size_t bits) { return Float8Values(dtype)[bits]; };
  const DType fn = DType::kFloat8E4M3FN, e5m2 = DType::kFloat8E5M2;
  EXPECT_EQ(value(fn, 0x01), std::ldexp(1.0F, -9));
  EXPECT_EQ(value(fn, 0x08), std::ldexp(1.0F, -6));
  EXPECT_EQ(value(fn, 0x38), 1.0F);
  EXPECT_EQ(value(fn, 0x7e), 448.0F);
  EXPECT_EQ(value(fn, 0xfe), -448.0F);
  EXPECT_TRUE(std::isnan(value(fn, 0x7f)) && std::isnan(value(fn, 0xff)));
  EXPECT_TRUE(std::signbit(value(fn, 0x80)) && value(fn, 0x80) == 0);
  EXPECT_EQ(value(e5m2, 0x01), std::ldexp(1.0F, -16));
  EXPECT_EQ(value(e5m2, 0x3c), 1.0F);
  EXPECT_EQ(value(e5m2, 0x7b), 57344.0F);
  EXPECT_EQ(value(e5m2, 0xfc), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(value(e5m2, 0x7d)) && std::isnan(value(e5m2, 0xff)));
  EXPECT_EQ(value(DType::kFloat8E4M3FNUZ, 0x7f), 240.0F);
  EXPECT_TRUE(std::isnan(value(DType::kFloat8E4M3FNUZ, 0x80)));
  EXPECT_EQ(value(DType::kFloat8E5M2FNUZ, 0x7f), 57344.0F);
  EXPECT_TRUE(std::isnan(value(DType::kFloat8E5M2FNUZ, 0x80)));
  EXPECT_EQ(value(DType::kFloat8E8M0FNU, 0), std::ldexp(1.0F, -127));
  EXPECT_EQ(value(DType::kFloat8E8M0FNU, 127), 1.0F);
  EXPECT_EQ(value(DType::kFloat8E8M0FNU, 254), std::ldexp(1.0F, 127));
  EXPECT_TRUE(std::isnan(value(DType::kFloat8E8M0FNU, 255)));
}

// Both ways make the same floats, whatever stands at the end of a run.
TEST(DequantizeKernelsTest, BothMakeTheSame) {
  std::vector<std::byte> values;
  for (int i = 0; i < 256 + 13; ++i) values.push_back(static_cast<std::byte>(i * 7));
  for (const DType dtype : {DType::kFloat8E4M3FN, DType::kFloat8E5M2, DType::kFloat8E4M3FNUZ,
                            DType::kFloat8E5M2FNUZ})
    for (const float scale : {1.0F, 0.37F, -3e-39F, 3e38F, std::numeric_limits<float>::infinity()}) {
      const auto fast = dequantize_kernels::FindAvx2(dtype);
      if (!fast || !cast_kernels::HasAvx2()) continue;
      std::vector<float> a(values.size()), b(values.size());
      dequantize_kernels::FindScalar(dtype)(values.data(), scale, a.data(), a.size());
      fast(values.data(), scale, b.data(), b.size());
      for (size_t i = 0; i < a.size(); ++i)
        EXPECT_TRUE((std::isnan(a[i]) && std::isnan(b[i])) ||
                    std::bit_cast<uint32_t>(a[i]) == std::bit_cast<uint32_t>(b[i]))
            << DTypeName(dtype) << " " << std::to_integer<int>(values[i]) << " * " << scale;
    }
}

}  // namespace
}  // namespace reshard
