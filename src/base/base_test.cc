#include <gtest/gtest.h>

#include <limits>

#include "base/byte_source.h"
#include "base/checked_math.h"
#include "reshard/dtype.h"

namespace reshard {
namespace {

TEST(DTypeTest, NamesAreUniqueAndParse) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(ParseDType(DTypeName(dtype)), dtype) << i;
    EXPECT_GT(ItemSize(dtype), 0) << DTypeName(dtype);
  }
  EXPECT_FALSE(ParseDType("float33"));
}

TEST(CheckedMathTest, NumelOfEmptyAndHugeShapes) {
  const int64_t big = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(CheckedNumel({}), 1);
  EXPECT_EQ(CheckedNumel(std::array<int64_t, 2>{3, 4}), 12);
  EXPECT_EQ(CheckedNumel(std::array<int64_t, 2>{0, big}), 0);
  EXPECT_FALSE(CheckedNumel(std::array<int64_t, 2>{2, big}));
  EXPECT_FALSE(CheckedNumel(std::array<int64_t, 2>{-1, 0}));
}

TEST(CheckedMathTest, InRangeDoesNotWrap) {
  const uint64_t big = std::numeric_limits<uint64_t>::max();
  EXPECT_TRUE(InRange(4, 0, 4));
  EXPECT_FALSE(InRange(5, 0, 4));
  EXPECT_FALSE(InRange(2, big, 4));
}

TEST(ByteSourceTest, SubSourceClipsAndReportsTheOuterOffset) {
  MemorySource whole(std::string_view("0123456789"), "file");
  SubSource part(whole, 8, 100);
  EXPECT_EQ(part.size(), 2u);
  EXPECT_EQ(part.origin(), 8u);
  EXPECT_EQ(SubSource(part, 1, 1).origin(), 9u);
  std::array<std::byte, 3> out;
  auto read = part.ReadAt(0, out);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kSource);
  EXPECT_EQ(read.error().file, "file");
  EXPECT_EQ(read.error().offset, 8u);
}

}  // namespace
}  // namespace reshard
