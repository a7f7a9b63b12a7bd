// view_lower: what it costs to build a view and to lower it, with 10^11 elements and with 10^5: the
// same. Prints one line a case.

#include <fmt/format.h>

#include <chrono>

#include "view/lower.h"
#include "view/view.h"

namespace reshard {
namespace {

constexpr int kRuns = 2000;

// A fused query, key and value of grouped heads, made of three tensors, transposed and cast;
// `width` columns.
View FusedQkv(int64_t width) {
  const int64_t groups = 8, size = 128;
  const View q = View::Source(0, DType::kFloat32, {groups * 8 * size, width});
  const View k = View::Source(1, DType::kFloat32, {groups * size, width});
  const View v = View::Source(2, DType::kFloat32, {groups * size, width});
  const View grouped = *View::Concat(
      {*View::Reshape(q, {groups, 8 * size, width}), *View::Reshape(k, {groups, size, width}),
       *View::Reshape(v, {groups, size, width})},
      1);
  const View fused = *View::Reshape(grouped, {groups * 10 * size, width});
  return *View::Cast(*View::Permute(fused, {1, 0}), DType::kBFloat16);
}

// Gate and up of `experts` experts, stacked and interleaved; one rank's half of each.
View StackedExperts(int64_t experts) {
  const int64_t rows = 1536, columns = 2048;
  const View gate = View::Source(0, DType::kBFloat16, {experts, rows, columns});
  const View up = View::Source(1, DType::kBFloat16, {experts, rows, columns});
  const View pairs = *View::Concat({*View::Reshape(gate, {experts, rows, 1, columns}),
                                    *View::Reshape(up, {experts, rows, 1, columns})},
                                   2);
  return *View::Slice(*View::Reshape(pairs, {experts, 2 * rows, columns}), 1, 0, rows);
}

void Measure(const char* name, View (*make)(int64_t), int64_t size) {
  const auto seconds = [](auto&& work) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kRuns; ++i) work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / kRuns;
  };
  const View view = make(size);
  const uint64_t elements = view.byte_size() / static_cast<uint64_t>(ItemSize(view.dtype()));
  size_t regions = 0;
  const auto count = [&](const Region&) -> Result<> {
    ++regions;
    return {};
  };
  const double build = seconds([&] { (void)make(size); });
  const double lower = seconds([&] { (void)LowerWhole(view, count); });
  fmt::print("{:16} {:>16} elements: built in {:5.2f} us, lowered in {:5.2f} us to {} regions\n",
             name, elements, build * 1e6, lower * 1e6, regions / kRuns);
}

}  // namespace
}  // namespace reshard

int main() {
  for (const int64_t width : {16, 10'000'000})
    reshard::Measure("fused qkv", reshard::FusedQkv, width);
  for (const int64_t experts : {1, 40'000})
    reshard::Measure("stacked experts", reshard::StackedExperts, experts);
  return 0;
}
