#include "engine/checksum.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include "engine/engine_test_support.h"

namespace reshard {
namespace {

// The sums that xxhash itself gives for a block at once.
uint64_t Xxh3(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

TEST(ChecksumTest, KnownValues) {
  // XXH3 of no bytes, by xxhash's own specification: of the empty block list, and of a file of one
  // block.
  EXPECT_EQ(FileChecksum{}.Root(), "99aa06d3014798d86001c324468d497f");
  const auto sum = SumFile(MemorySource(std::string_view("")));
  ASSERT_TRUE(sum);
  EXPECT_TRUE(sum->blocks.empty());
  EXPECT_EQ(BlockCount(0), 0u);
  EXPECT_EQ(BlockCount(1), 1u);
  EXPECT_EQ(BlockCount(kBlockBytes), 1u);
  EXPECT_EQ(BlockCount(kBlockBytes + 1), 2u);
  EXPECT_EQ(BlockCount(UINT64_MAX), (UINT64_MAX >> 22) + 1);
}

TEST(ChecksumTest, BlocksAreThoseOfXxhash) {
  for (const uint64_t size : {uint64_t{1}, kBlockBytes, kBlockBytes + 1, 2 * kBlockBytes + 12345}) {
    const std::string bytes = Noise(size, 1);
    const auto sum = SumFile(MemorySource(bytes));
    ASSERT_TRUE(sum);
    EXPECT_EQ(sum->size, size);
    ASSERT_EQ(sum->blocks.size(), BlockCount(size));
    for (size_t i = 0; i < sum->blocks.size(); ++i)
      EXPECT_EQ(sum->blocks[i], Xxh3(std::string_view(bytes).substr(i * kBlockBytes, kBlockBytes)));
  }
}

TEST(ChecksumTest, PiecesOfABlockAreTheBlock) {
  const std::string bytes = Noise(5000, 2);
  BlockHash hash;
  hash.Update(std::as_bytes(std::span(bytes)));  // What Reset must forget.
  hash.Reset();
  for (size_t at = 0; at < bytes.size(); at += 777)
    hash.Update(std::as_bytes(std::span(bytes)).subspan(at, std::min<size_t>(777, 5000 - at)));
  EXPECT_EQ(hash.Digest(), Xxh3(bytes));
}

TEST(ChecksumTest, EveryBlockAndItsPlaceCountInTheRoot) {
  const FileChecksum sum{.size = 2 * kBlockBytes, .blocks = {1, 2}};
  EXPECT_EQ(sum.Root().size(), 32u);
  EXPECT_NE(sum.Root(), (FileChecksum{.size = sum.size, .blocks = {2, 1}}.Root()));
  EXPECT_NE(sum.Root(), (FileChecksum{.size = sum.size, .blocks = {1, 2, 0}}.Root()));
}

}  // namespace
}  // namespace reshard
