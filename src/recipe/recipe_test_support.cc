#include "recipe/recipe_test_support.h"

#include <functional>
#include <numeric>

#include "view/lower.h"

namespace reshard {

int64_t NumelOf(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::vector<Element> Elements(const View& view, const std::vector<Shape>& shapes) {
  std::vector<Element> out(static_cast<size_t>(NumelOf(view.shape())), Element{0, -1});
  (void)LowerWhole(view, [&](const Region& region) -> Result<> {
    const bool fill = region.source == Region::kFill;
    const auto strides = fill ? std::vector<int64_t>() : RowMajorStrides(shapes[region.source]);
    const std::function<void(size_t, int64_t, int64_t)> walk = [&](size_t depth, int64_t dst,
                                                                   int64_t src) {
      if (depth == region.loops.size()) {
        out[static_cast<size_t>(dst)] = {region.source, fill ? 0 : src};
        return;
      }
      const Loop& loop = region.loops[depth];
      for (int64_t i = 0; i < loop.extent; ++i)
        walk(depth + 1, dst + i * loop.dst_stride,
             fill ? 0 : src + i * loop.step * strides[loop.dim]);
    };
    int64_t start = 0;
    for (size_t dim = 0; dim < strides.size(); ++dim) start += region.start[dim] * strides[dim];
    walk(0, region.dst, start);
    return {};
  });
  return out;
}

std::vector<Element> AllElements(uint32_t source, const Shape& shape) {
  std::vector<Element> all;
  for (int64_t i = 0; i < NumelOf(shape); ++i) all.emplace_back(source, i);
  return all;
}

}  // namespace reshard
