#include "view/chunk_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "view/catalog_builder.h"

namespace reshard {
namespace {

struct TestBox {
  std::vector<int64_t> start;
  std::vector<int64_t> extent;
};

// Straight cuts at random, down to `depth`.
void CutAtRandom(const TestBox& box, int depth, std::vector<TestBox>* out) {
  const size_t dim = *rc::gen::inRange<size_t>(0, box.extent.size());
  if (depth == 0 || box.extent[dim] < 2) {
    out->push_back(box);
    return;
  }
  TestBox low = box, high = box;
  low.extent[dim] = *rc::gen::inRange<int64_t>(1, box.extent[dim]);
  high.start[dim] += low.extent[dim];
  high.extent[dim] -= low.extent[dim];
  CutAtRandom(low, depth - 1, out);
  CutAtRandom(high, depth - 1, out);
}

// Tensor "w" in these boxes, behind one of another name, so that chunk positions do not begin at 0.
Catalog CatalogOf(const Shape& shape, const std::vector<TestBox>& boxes) {
  CatalogBuilder builder;
  builder.AddFile({.path = "f", .size = 1});
  builder.AddTensor("before", DType::kInt8, {1});
  builder.AddWhole(0, 0, 1);
  builder.AddTensor("w", DType::kInt8, shape);
  for (const TestBox& box : boxes) builder.AddChunk(box.start, box.extent, 0, 0, 1);
  return *std::move(builder).Build("ckpt");
}

// Where elements of a region go: target position -> (chunk, coordinates within the chunk).
using Placement = std::map<int64_t, std::pair<uint32_t, std::vector<int64_t>>>;

void Visit(const Region& region, size_t loop, int64_t dst, std::vector<int64_t> at,
           const std::function<void(int64_t, const std::vector<int64_t>&)>& visit) {
  if (loop == region.loops.size()) return visit(dst, at);
  const Loop& l = region.loops[loop];
  for (int64_t i = 0; i < l.extent; ++i) {
    Visit(region, loop + 1, dst + i * l.dst_stride, at, visit);
    at[l.dim] += l.step;
  }
}

// By definition: each element is looked for in every box.
Placement LookUp(const Catalog& catalog, const Region& region) {
  const Tensor& tensor = catalog.tensors()[region.source];
  const auto chunks = catalog.chunks(tensor);
  Placement placement;
  Visit(region, 0, region.dst, region.start, [&](int64_t dst, const std::vector<int64_t>& at) {
    for (uint32_t i = 0; i < chunks.size(); ++i) {
      const BoxView box = catalog.Box(tensor, chunks[i]);
      std::vector<int64_t> inner(at);
      bool inside = true;
      for (size_t dim = 0; dim < at.size(); ++dim) {
        inner[dim] -= box.start[dim];
        inside &= inner[dim] >= 0 && inner[dim] < box.extent[dim];
      }
      if (inside) placement[dst] = {tensor.first_chunk + i, inner};
    }
  });
  return placement;
}

// What the index says; nothing where it gives an element twice.
std::optional<Placement> Cut(const ChunkIndex& index, const Region& region) {
  Placement placement;
  bool twice = false;
  const auto cut = index.Cut(region, [&](const ChunkIndex::Piece& piece) -> Result<> {
    Visit(piece.region, 0, piece.region.dst, piece.region.start,
          [&](int64_t dst, const std::vector<int64_t>& at) {
            twice |= !placement.emplace(dst, std::pair(piece.chunk, at)).second;
          });
    return {};
  });
  if (!cut || twice) return std::nullopt;
  return placement;
}

// A region of the tensor: each dimension has a loop or none, in any order, with steps up to 3.
Region RandomRegion(const Shape& shape) {
  Region region{.source = 1, .source_dtype = DType::kInt8, .dst = *rc::gen::inRange(0, 5)};
  int64_t dst_stride = 1;
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    region.start.push_back(*rc::gen::inRange<int64_t>(0, shape[dim]));
    const int64_t step = *rc::gen::inRange<int64_t>(1, 4);
    const int64_t most = (shape[dim] - 1 - region.start[dim]) / step + 1;
    const int64_t extent = *rc::gen::inRange<int64_t>(1, most + 1);
    if (extent == 1 && *rc::gen::arbitrary<bool>()) continue;
    region.loops.push_back({.extent = extent, .dst_stride = dst_stride, .dim = dim, .step = step});
    dst_stride *= extent;
  }
  if (*rc::gen::arbitrary<bool>()) std::ranges::reverse(region.loops);
  return region;
}

TEST(ChunkIndexTest, PiecesAreTheRegionElementByElement) {
  EXPECT_TRUE(rc::check([] {
    Shape shape;
    for (int i = *rc::gen::inRange(1, 4); i > 0; --i) shape.push_back(*rc::gen::inRange(1, 9));
    std::vector<TestBox> boxes;
    CutAtRandom({Shape(shape.size(), 0), shape}, *rc::gen::inRange(0, 5), &boxes);
    const Catalog catalog = CatalogOf(shape, boxes);
    const ChunkIndex index(catalog);

    const Region region = RandomRegion(shape);
    const auto got = Cut(index, region);
    RC_ASSERT(got.has_value());
    RC_ASSERT(*got == LookUp(catalog, region));
  }));
}

// No straight cut parts these five, and the longest chunk does not stand first.
TEST(ChunkIndexTest, Pinwheel) {
  const Catalog catalog = CatalogOf(
      {3, 3},
      {{{0, 0}, {1, 2}}, {{0, 2}, {2, 1}}, {{2, 1}, {1, 2}}, {{1, 0}, {2, 1}}, {{1, 1}, {1, 1}}});
  const ChunkIndex index(catalog);
  for (int64_t row = 0; row < 3; ++row) {
    const Region region{.source = 1, .start = {row, 0}, .loops = {{3, 1, 1, 1}}};
    const auto got = Cut(index, region);
    ASSERT_TRUE(got);
    EXPECT_EQ(*got, LookUp(catalog, region));
    EXPECT_EQ(got->size(), 3u);
  }
}

TEST(ChunkIndexTest, ScalarsHaveOnePiece) {
  const Catalog catalog = CatalogOf({}, {{{}, {}}});
  const auto got = Cut(ChunkIndex(catalog), Region{.source = 1, .dst = 7});
  ASSERT_TRUE(got);
  EXPECT_EQ(*got, (Placement{{7, {1, {}}}}));
}

// A step that leaps over a whole chunk gives no piece of it.
TEST(ChunkIndexTest, StepsOverChunksLeaveThemOut) {
  const Catalog catalog = CatalogOf({9}, {{{0}, {2}}, {{2}, {1}}, {{3}, {6}}});
  std::vector<uint32_t> chunks;
  const Region region{.source = 1, .start = {1}, .loops = {{3, 1, 0, 3}}};  // 1, 4, 7
  ASSERT_TRUE(ChunkIndex(catalog).Cut(region, [&](const ChunkIndex::Piece& piece) -> Result<> {
    chunks.push_back(piece.chunk);
    return {};
  }));
  EXPECT_THAT(chunks, testing::ElementsAre(1, 3));
}

TEST(ChunkIndexTest, HandsOnAnErrorAndStops) {
  const Catalog catalog = CatalogOf({4}, {{{0}, {1}}, {{1}, {1}}, {{2}, {2}}});
  int calls = 0;
  const Region region{.source = 1, .start = {0}, .loops = {{4, 1, 0, 1}}};
  const auto cut = ChunkIndex(catalog).Cut(region, [&](const ChunkIndex::Piece&) -> Result<> {
    ++calls;
    return std::unexpected(Error{.kind = ErrorKind::kSource, .found = "no"});
  });
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().found, "no");
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace reshard
