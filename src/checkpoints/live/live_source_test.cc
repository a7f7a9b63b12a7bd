#include "checkpoints/live/live_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace reshard {
namespace {

using testing::ElementsAre;

// A tensor of 3 x 4 whose columns are shared out among two processes.
const std::vector<LiveTensor> kTensors = {
    {.name = "w",
     .dtype = DType::kInt16,
     .shape = {3, 4},
     .shards = {{.rank = 0, .start = {0, 0}, .extent = {3, 3}},
                {.rank = 1, .start = {0, 3}, .extent = {3, 1}}}},
    {.name = "scalar", .dtype = DType::kFloat32, .shape = {}, .shards = {{.rank = 1}}}};

TEST(LiveSourceTest, ProcessesAreFilesAndShardsTheirChunks) {
  const auto source = LiveSource::Make(kTensors).value();
  const Catalog& catalog = source->catalog();
  EXPECT_EQ(source->kind(), "live");
  ASSERT_EQ(catalog.files().size(), 2u);
  EXPECT_EQ(catalog.files()[0].size, 18u);
  EXPECT_EQ(catalog.files()[1].size, 10u);
  const Tensor& w = *catalog.Find("w");
  EXPECT_THAT(w.shape, ElementsAre(3, 4));
  ASSERT_EQ(catalog.chunks(w).size(), 2u);
  EXPECT_EQ(catalog.chunks(w)[1].file, 1u);
  EXPECT_THAT(catalog.Box(w, catalog.chunks(w)[1]).start, ElementsAre(0, 3));
}

TEST(LiveSourceTest, LentMemoryIsReadWithItsStrides) {
  const auto source = LiveSource::Make(kTensors).value();
  std::vector<int16_t> memory(30);
  std::iota(memory.begin(), memory.end(), int16_t{0});
  const LiveBytes bytes{.tensor = "w",
                        .start = {0, 0},
                        .data = reinterpret_cast<const std::byte*>(memory.data()),
                        .strides = {1, 10}};  // the first dimension is the densest
  const Catalog& catalog = source->catalog();
  const Tensor& w = *catalog.Find("w");
  const auto positions = source->Lend({bytes});
  ASSERT_TRUE(positions);
  EXPECT_THAT(*positions, ElementsAre(w.first_chunk));
  const ChunkLayout layout = source->Locate(w, catalog.chunks(w)[0]).value();
  EXPECT_THAT(layout.strides, ElementsAre(1, 10));
  // Element (2, 1).
  int16_t value = 0;
  ASSERT_TRUE(source->ReadAt(layout.file, layout.offset + 12 * sizeof value,
                             std::as_writable_bytes(std::span(&value, 1))));
  EXPECT_EQ(value, 12);
  // The last element is (2, 2): nothing behind it is anybody's business.
  EXPECT_TRUE(source->ReadAt(layout.file, layout.offset + 22 * sizeof value,
                             std::as_writable_bytes(std::span(&value, 1))));
  EXPECT_FALSE(source->ReadAt(layout.file, layout.offset + 23 * sizeof value,
                              std::as_writable_bytes(std::span(&value, 1))));
  source->TakeBack();
  const auto read = source->ReadAt(layout.file, layout.offset,
                                   std::as_writable_bytes(std::span(&value, 1)));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kUsage);
}

TEST(LiveSourceTest, MemoryMustBeOfADeclaredShard) {
  const auto source = LiveSource::Make(kTensors).value();
  const LiveBytes cases[] = {
      {.tensor = "v", .start = {0, 0}, .strides = {4, 1}},
      {.tensor = "w", .start = {0, 1}, .strides = {4, 1}},
      {.tensor = "w", .start = {1, 3}, .strides = {4, 1}},
      {.tensor = "w", .start = {0}, .strides = {4, 1}},
      {.tensor = "w", .start = {0, 0}, .strides = {1}},
  };
  for (const LiveBytes& bytes : cases) {
    const auto lent = source->Lend({bytes});
    ASSERT_FALSE(lent);
    EXPECT_EQ(lent.error().kind, ErrorKind::kUsage);
    EXPECT_EQ(lent.error().tensor, bytes.tensor);
  }
}

TEST(LiveSourceTest, ShardsMustTileTheirTensor) {
  auto with = [](std::vector<LiveShard> shards) {
    return LiveSource::Make(
        {{.name = "w", .dtype = DType::kInt16, .shape = {3, 4}, .shards = std::move(shards)}});
  };
  EXPECT_FALSE(with({{0, {0, 0}, {3, 3}}})) << "a hole";
  EXPECT_FALSE(with({{0, {0, 0}, {3, 3}}, {1, {0, 2}, {3, 2}}})) << "an overlap";
  EXPECT_FALSE(with({{0, {0, 0}, {3, 5}}})) << "too far";
  EXPECT_FALSE(with({{0, {0}, {3}}})) << "a dimension too few";
  EXPECT_FALSE(with({{0, {0, 0}, {3, INT64_MAX}}})) << "too large";
  EXPECT_TRUE(with({{0, {0, 0}, {3, 3}}, {7, {0, 3}, {3, 1}}}));
}

}  // namespace
}  // namespace reshard
