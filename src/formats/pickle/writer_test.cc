#include "formats/pickle/writer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <vector>

namespace reshard::pickle {
namespace {

std::string Hex(std::string_view bytes) {
  std::string out;
  for (const char byte : bytes) out += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return out;
}

// The expected bytes are those of CPython 3.11's pickle.dumps(..., protocol=2).
TEST(PickleWriterTest, IntegersAsCPython) {
  constexpr int64_t kPower31 = int64_t{1} << 31;
  constexpr int64_t kPower39 = int64_t{1} << 39;
  const std::vector<int64_t> numbers = {0,
                                        255,
                                        256,
                                        65535,
                                        65536,
                                        -1,
                                        kPower31 - 1,
                                        kPower31,
                                        -kPower31,
                                        -kPower31 - 1,
                                        kPower39 - 1,
                                        kPower39,
                                        -kPower39,
                                        -kPower39 - 1,
                                        std::numeric_limits<int64_t>::max(),
                                        std::numeric_limits<int64_t>::min(),
                                        32768,
                                        -128,
                                        -32769};
  Writer out;
  out.Put(Op::kEmptyList);
  out.Memoize();
  out.AppendItems(numbers.size(), [&](size_t i) { out.Int(numbers[i]); });
  EXPECT_EQ(Hex(std::move(out).Take()),
            "80025d7100284b004bff4d00014dffff4a000001004affffffff4affffff7f8a0500000080004a00000080"
            "8a05ffffff7fff8a05ffffffff7f8a060000000080008a0500000000808a06ffffffff7fff8a08ffffffff"
            "ffffff7f8a0800000000000000804d00804a80ffffff4aff7fffff652e");
}

TEST(PickleWriterTest, OtherValuesAsCPython) {
  Writer out;
  out.Put(Op::kEmptyList);
  out.Memoize();
  const std::array<int64_t, 4> counted = {1, 2, 3, 4};
  const std::array<double, 5> floats = {0.0, -0.0, 3.0, 1e300,
                                        std::numeric_limits<double>::infinity()};
  out.AppendItems(14, [&](size_t i) {
    if (i < 5) return out.Float(floats[i]);
    if (i == 5) return out.None();
    if (i < 8) return out.Bool(i == 6);
    if (i > 8) {
      out.IntTuple(std::span(counted).first(i - 9));
      if (i > 9) out.Memoize();
      return;
    }
    out.Text("a\xc3\xa9");
    out.Memoize();
  });
  EXPECT_EQ(Hex(std::move(out).Take()),
            "80025d710028470000000000000000478000000000000000474008000000000000477e37e43c8800759c47"
            "7ff00000000000004e8889580300000061c3a97101294b018571024b014b028671034b014b024b03877104"
            "284b014b024b034b04747105652e");
}

TEST(PickleWriterTest, OneItemHasNoMark) {
  Writer out;
  out.Put(Op::kEmptyList);
  out.AppendItems(0, [&](size_t) { out.None(); });
  out.AppendItems(1, [&](size_t) { out.None(); });
  EXPECT_EQ(std::move(out).Take(), std::string("\x80\x02]Na."));
}

TEST(PickleWriterTest, ConstantsComeFromTheMemo) {
  Writer out;
  Writer::Slot text, global;
  EXPECT_FALSE(out.Fetch(text));
  for (int i = 0; i < 2; ++i) {
    out.Text("a", &text);
    out.Global("m", "n", &global);
  }
  EXPECT_EQ(Hex(std::move(out).Take()), "80025801000000617100636d0a6e0a7101680068012e");
}

TEST(PickleWriterTest, SlotsBeyondAByte) {
  Writer out;
  Writer::Slot last;
  for (int i = 0; i < 256; ++i) out.Memoize();
  out.Text("", &last);
  EXPECT_TRUE(out.Fetch(last));
  const std::string pickle = std::move(out).Take();
  EXPECT_EQ(Hex(pickle.substr(2 + 256 * 2)), "580000000072000100006a000100002e");
}

}  // namespace
}  // namespace reshard::pickle
