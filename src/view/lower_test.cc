#include "view/lower.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <utility>

namespace reshard {
namespace {

using Element = std::pair<uint32_t, std::vector<int64_t>>;  // source tensor and coordinates

// What a view means, by definition: where the element at `at` comes from.
Element Origin(const View& view, std::vector<int64_t> at) {
  switch (view.op()) {
    case View::Op::kSource:
      return {view.source(), std::move(at)};
    case View::Op::kFill:
      return {Region::kFill, {}};
    case View::Op::kReshape: {
      const View& input = view.inputs()[0];
      const auto from = RowMajorStrides(view.shape()), to = RowMajorStrides(input.shape());
      int64_t flat = 0;
      for (size_t dim = 0; dim < at.size(); ++dim) flat += at[dim] * from[dim];
      std::vector<int64_t> there(to.size());
      for (size_t dim = 0; dim < there.size(); ++dim) {
        there[dim] = flat / to[dim];
        flat %= to[dim];
      }
      return Origin(input, std::move(there));
    }
    case View::Op::kPermute: {
      std::vector<int64_t> there(at.size());
      for (size_t dim = 0; dim < at.size(); ++dim) there[view.dims()[dim]] = at[dim];
      return Origin(view.inputs()[0], std::move(there));
    }
    case View::Op::kRepeat:
    case View::Op::kDequantize:
    case View::Op::kCast: return Origin(view.inputs()[0], std::move(at));
    case View::Op::kSlice:
      at[view.dim()] += view.start();
      return Origin(view.inputs()[0], std::move(at));
    case View::Op::kConcat:
      for (const View& input : view.inputs()) {
        if (at[view.dim()] < input.shape()[view.dim()]) return Origin(input, std::move(at));
        at[view.dim()] -= input.shape()[view.dim()];
      }
  }
  return {};
}

// A shape of as many elements: its prime factors dealt out again.
Shape RandomReshape(const Shape& shape) {
  Shape out(*rc::gen::inRange<size_t>(1, 5), 1);
  for (int64_t size : shape)
    for (int64_t prime = 2; size > 1; ++prime)
      for (; size % prime == 0; size /= prime)
        out[*rc::gen::inRange<size_t>(0, out.size())] *= prime;
  if (std::ranges::find(shape, 0) != shape.end()) out[0] = 0;
  return out;
}

View RandomView(int depth, const Shape& shape, uint32_t* sources) {
  const int pick = depth == 0 ? *rc::gen::inRange(0, 8) == 0 ? 5 : 0 : *rc::gen::inRange(0, 5);
  const size_t dim = *rc::gen::inRange<size_t>(0, shape.size());
  if (pick == 1) {  // A slice of something larger.
    const int64_t before = *rc::gen::inRange(0, 4);
    Shape outer = shape;
    outer[dim] += before + *rc::gen::inRange(0, 4);
    return *View::Slice(RandomView(depth - 1, outer, sources), dim, before, shape[dim]);
  }
  if (pick == 2) {  // A concatenation of parts, some of them empty.
    std::vector<View> parts;
    int64_t left = shape[dim];
    for (int i = 0; i < 3; ++i) {
      Shape part = shape;
      part[dim] = i == 2 ? left : *rc::gen::inRange<int64_t>(0, left + 1);
      left -= part[dim];
      parts.push_back(RandomView(depth - 1, part, sources));
    }
    return *View::Concat(std::move(parts), dim);
  }
  if (pick == 3) return *View::Reshape(RandomView(depth - 1, RandomReshape(shape), sources), shape);
  if (pick == 4) {
    std::vector<size_t> dims(shape.size());
    std::iota(dims.begin(), dims.end(), size_t{0});
    for (size_t i = 1; i < dims.size(); ++i)
      std::swap(dims[i], dims[*rc::gen::inRange<size_t>(0, i + 1)]);
    Shape inner(shape.size());
    for (size_t i = 0; i < dims.size(); ++i) inner[dims[i]] = shape[i];
    return *View::Permute(RandomView(depth - 1, inner, sources), dims);
  }
  if (pick == 5) return *View::Fill(DType::kFloat32, shape, 0);
  return View::Source((*sources)++, DType::kFloat32, shape);
}

// Visits every element of a nest of extents.
void ForEach(const std::vector<int64_t>& extents,
             const std::function<void(const std::vector<int64_t>&)>& visit) {
  std::vector<int64_t> at(extents.size(), 0);
  const int64_t total =
      std::accumulate(extents.begin(), extents.end(), int64_t{1}, std::multiplies<>());
  for (int64_t i = 0; i < total; ++i) {
    visit(at);
    for (size_t dim = extents.size(); dim-- > 0;) {
      if (++at[dim] < extents[dim]) break;
      at[dim] = 0;
    }
  }
}

TEST(LowerTest, RegionsAreTheViewElementByElement) {
  EXPECT_TRUE(rc::check([] {
    Shape shape;
    for (int i = *rc::gen::inRange(1, 4); i > 0; --i) shape.push_back(*rc::gen::inRange(1, 7));
    uint32_t sources = 0;
    const View view = RandomView(6, shape, &sources);
    RC_ASSERT(view.shape() == shape);

    std::vector<int64_t> start, extent;
    for (int64_t size : shape) {
      start.push_back(*rc::gen::inRange<int64_t>(0, size));
      extent.push_back(*rc::gen::inRange<int64_t>(1, size - start.back() + 1));
    }
    const std::vector<int64_t> strides = RowMajorStrides(extent);
    std::map<int64_t, Element> got;
    auto lowered = Lower(view, start, extent, strides, [&](const Region& region) -> Result<> {
      std::vector<int64_t> extents;
      for (const Loop& loop : region.loops) extents.push_back(loop.extent);
      ForEach(extents, [&](const std::vector<int64_t>& counters) {
        int64_t dst = region.dst;
        std::vector<int64_t> at = region.start;
        for (size_t i = 0; i < counters.size(); ++i) {
          dst += counters[i] * region.loops[i].dst_stride;
          at[region.loops[i].dim] += counters[i] * region.loops[i].step;
        }
        if (region.source == Region::kFill) at.clear();
        RC_ASSERT(got.emplace(dst, Element{region.source, at}).second);
      });
      return {};
    });
    RC_ASSERT(lowered.has_value());

    std::map<int64_t, Element> want;
    ForEach(extent, [&](const std::vector<int64_t>& counters) {
      int64_t dst = 0;
      std::vector<int64_t> at = start;
      for (size_t i = 0; i < counters.size(); ++i) {
        dst += counters[i] * strides[i];
        at[i] += counters[i];
      }
      want[dst] = Origin(view, at);
    });
    RC_ASSERT(got == want);
  }));
}

size_t CountRegions(const View& view) {
  size_t count = 0;
  EXPECT_TRUE(LowerWhole(view, [&](const Region&) -> Result<> {
    ++count;
    return {};
  }));
  return count;
}

TEST(LowerTest, RegionsDoNotGrowWithTheTensor) {
  for (const int64_t scale : {1, 1'000, 1'000'000}) {
    const View q = View::Source(0, DType::kFloat32, {8 * 4 * 128, 64 * scale});
    const View k = View::Source(1, DType::kFloat32, {8 * 128, 64 * scale});
    const View fused = *View::Reshape(*View::Concat({*View::Reshape(q, {8, 4, 128, 64 * scale}),
                                                     *View::Reshape(k, {8, 1, 128, 64 * scale})},
                                                    1),
                                      {8 * 5 * 128, 64 * scale});
    EXPECT_EQ(CountRegions(fused), 2u);
    EXPECT_EQ(CountRegions(*View::Slice(fused, 0, 640, 640)), 2u);
    EXPECT_EQ(CountRegions(*View::Slice(fused, 1, scale, 2 * scale)), 2u);
    EXPECT_LE(CountRegions(*View::Slice(fused, 0, 100, 3001)), 8u);
    const View flat = *View::Reshape(q, {8 * 4 * 128 * 64 * scale});
    EXPECT_EQ(CountRegions(*View::Slice(flat, 0, 7, 64 * scale * 1000)), 3u);
    // 96 and 64 columns meet every third row.
    const View odd =
        *View::Reshape(View::Source(0, DType::kFloat32, {96 * scale, 64}), {64 * scale, 96});
    EXPECT_LE(CountRegions(*View::Slice(odd, 1, 10, 70)), 8u);
  }
}

// The scales of a box of values are a box too, however the values are then placed.
TEST(ScalesOfTest, IsTheBoxThatTheValuesReach) {
  const View values = View::Source(0, DType::kFloat8E4M3FN, {300, 200});
  const View scales = View::Source(1, DType::kFloat32, {3, 2});
  const View turned = *View::Permute(*View::Dequantize(values, scales, {128, 128}), {1, 0});
  const std::vector<int64_t> start = {100, 127}, extent = {50, 2}, strides = {2, 1};
  size_t regions = 0;
  ASSERT_TRUE(Lower(turned, start, extent, strides, [&](const Region& region) -> Result<> {
    ++regions;
    EXPECT_EQ(region.source, 0u);
    EXPECT_EQ(region.source_dtype, DType::kFloat8E4M3FN);
    const Region box = ScalesOf(region);
    EXPECT_EQ(box.source, 1u);
    EXPECT_EQ(box.start, (std::vector<int64_t>{0, 0}));
    EXPECT_EQ(box.loops, (std::vector<Loop>{{.extent = 2, .dst_stride = 2, .dim = 0},
                                            {.extent = 2, .dst_stride = 1, .dim = 1}}));
    return {};
  }));
  EXPECT_EQ(regions, 1u);
}

TEST(CutRangeTest, BoxesCoverTheRangeInOrder) {
  EXPECT_TRUE(rc::check([] {
    Shape shape;
    for (int i = *rc::gen::inRange(0, 5); i > 0; --i) shape.push_back(*rc::gen::inRange(1, 5));
    const auto strides = RowMajorStrides(shape);
    const int64_t total =
        std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    const int64_t begin = *rc::gen::inRange<int64_t>(0, total + 1);
    const int64_t end = *rc::gen::inRange<int64_t>(begin, total + 1);
    int64_t next = begin;
    size_t boxes = 0;
    auto cut = CutRange(shape, begin, end, [&](BoxView box) -> Result<> {
      ++boxes;
      ForEach({box.extent.begin(), box.extent.end()}, [&](const std::vector<int64_t>& at) {
        int64_t flat = 0;
        for (size_t dim = 0; dim < at.size(); ++dim)
          flat += (box.start[dim] + at[dim]) * strides[dim];
        RC_ASSERT(flat == next++);
      });
      return {};
    });
    RC_ASSERT(cut.has_value());
    RC_ASSERT(next == end);
    RC_ASSERT(boxes <= std::max<size_t>(2 * shape.size(), 2) - 1);
  }));
}

TEST(ViewTest, ScalesMustFitTheirValues) {
  const auto dequantize = [](DType dtype, Shape values, DType scale, Shape scales, Shape block) {
    return View::Dequantize(View::Source(0, dtype, std::move(values)),
                            View::Source(1, scale, std::move(scales)), std::move(block))
        .has_value();
  };
  const DType fp8 = DType::kFloat8E4M3FN, f32 = DType::kFloat32;
  EXPECT_TRUE(dequantize(fp8, {300, 200}, f32, {3, 2}, {128, 128}));
  EXPECT_TRUE(dequantize(fp8, {300, 200}, DType::kBFloat16, {300, 1}, {1, 200}));
  EXPECT_TRUE(dequantize(fp8, {300, 200}, f32, {}, {300, 200}));
  EXPECT_TRUE(dequantize(DType::kFloat8E5M2, {4, 300, 200}, DType::kFloat8E8M0FNU, {4, 3, 2},
                         {1, 128, 128}));
  EXPECT_TRUE(dequantize(fp8, {0, 200}, f32, {0, 2}, {128, 128}));
  EXPECT_FALSE(dequantize(fp8, {300, 200}, f32, {2, 2}, {128, 128}));
  EXPECT_FALSE(dequantize(fp8, {300, 200}, f32, {2, 3}, {128, 128}));
  EXPECT_FALSE(dequantize(fp8, {300, 200}, f32, {3, 2}, {128}));
  EXPECT_FALSE(dequantize(fp8, {300, 200}, f32, {3, 2}, {128, 0}));
  EXPECT_FALSE(dequantize(fp8, {300, 200}, f32, {3, 2}, {128, -128}));
  EXPECT_FALSE(dequantize(fp8, {300, 200}, f32, {}, {128, 128}));
  EXPECT_FALSE(dequantize(DType::kInt8, {300, 200}, f32, {3, 2}, {128, 128}));
  EXPECT_FALSE(dequantize(fp8, {300, 200}, DType::kFloat64, {3, 2}, {128, 128}));
  EXPECT_FALSE(dequantize(fp8, {INT64_MAX / 2}, f32, {1}, {INT64_MAX}));
  const View of = *View::Reshape(View::Source(0, fp8, {4, 2}), {8});
  EXPECT_FALSE(View::Dequantize(of, View::Source(1, f32, {1}), {8}));
}

TEST(ViewTest, RefusesWhatDoesNotFit) {
  const View a = View::Source(0, DType::kFloat32, {4, 2});
  const View b = View::Source(1, DType::kInt32, {4, 2});
  EXPECT_FALSE(View::Slice(a, 2, 0, 1));
  EXPECT_FALSE(View::Slice(a, 0, 3, 2));
  EXPECT_FALSE(View::Slice(a, 0, INT64_MAX, INT64_MAX));
  EXPECT_FALSE(View::Concat({a, b}, 0));
  EXPECT_FALSE(View::Concat({}, 0));
  EXPECT_FALSE(View::Cast(b, DType::kFloat16));
  EXPECT_FALSE(View::Cast(*View::Cast(a, DType::kFloat16), DType::kFloat32));
  EXPECT_EQ(View::Cast(a, DType::kFloat32)->op(), View::Op::kSource);
  EXPECT_FALSE(View::Reshape(a, {3, 3}));
  EXPECT_FALSE(View::Reshape(a, {-4, -2}));
  EXPECT_FALSE(View::Permute(a, {0}));
  EXPECT_FALSE(View::Permute(a, {0, 0}));
  EXPECT_FALSE(View::Fill(DType::kInt32, {2}, 1));
  EXPECT_FALSE(View::Fill(DType::kFloat32, {INT64_MAX, 3}));
}

}  // namespace
}  // namespace reshard
