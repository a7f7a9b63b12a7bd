#include "engine/window.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>

#include "engine/engine_test_support.h"
#include "plan/planner.h"

namespace reshard {
namespace {

// What a window is made from, for one file of tensors laid end to end behind a header, as
// safetensors lays them.
struct Bench {
  FakeSource source;
  Plan plan;

  void Lay(const std::vector<NamedView>& tensors, const std::string& header) {
    FileLayout layout{.size = header.size(), .literals = {{0, header}}};
    FileContent content;
    for (size_t i = 0; i < tensors.size(); ++i) {
      layout.slots.push_back(layout.size);
      layout.size += Slot{.view = tensors[i].view}.byte_size();
      content.push_back(i);
    }
    plan.files.push_back(FillSlots("out", std::move(layout), content, tensors));
  }

  // The file made of windows of at most `step` bytes.
  std::string Make(uint64_t step, std::map<std::string, size_t>* overflows = nullptr) const {
    const std::atomic<bool> never = false;
    const auto layouts = ChunkLayouts::Locate(ChunksOf(plan, source.catalog()), source, 1, &never);
    EXPECT_TRUE(layouts) << layouts.error().ToString();
    const ChunkIndex index(source.catalog());
    WindowFiller filler(source, index, *layouts);
    const FilePlan& file = plan.files[0];
    std::string bytes;
    for (uint64_t begin = 0; begin < file.size; begin += step) {
      const auto window = filler.Fill(file, begin, std::min(file.size, begin + step),
                                      [&](const Slot& slot, size_t n) {
                                        if (overflows) (*overflows)[slot.name] += n;
                                      });
      EXPECT_TRUE(window) << window.error().ToString();
      if (!window) return bytes;
      bytes.append(reinterpret_cast<const char*>(window->data()), window->size());
    }
    return bytes;
  }
};

std::string Floats(int count) {
  std::vector<float> values;
  for (int i = 0; i < count; ++i) values.push_back(static_cast<float>(i) * 1.37f - 20.f);
  return BytesOfValues(values);
}

// Odd sizes in front, so that elements of 2, 3, 4 and 16 bytes lie across every boundary; tensors
// without elements between them; chunks cut both ways, transposed, spread.
void FillBench(Bench* bench) {
  FakeSource& source = bench->source;
  source.Add("bytes", DType::kInt8, {13}, Noise(13, 1));
  source.Add("complex", DType::kComplex128, {3}, Noise(48, 2));
  source.Add("empty", DType::kFloat32, {4, 0}, "");
  source.Add("float6", DType::kFloat6E2M3x4, {2, 5}, Noise(30, 3),
             {{.start = {0, 0}, .extent = {2, 3}, .transposed = true},
              {.start = {0, 3}, .extent = {2, 2}, .spread = 2}});
  source.Add("grid", DType::kFloat32, {4, 6}, Floats(24),
             {{.start = {0, 0}, .extent = {3, 2}, .transposed = true},
              {.start = {3, 0}, .extent = {1, 2}},
              {.start = {0, 2}, .extent = {4, 4}, .spread = 3}});
  source.Add("scalar", DType::kFloat64, {}, Noise(8, 5));
  source.Open();
  const View grid = source.Of("grid");
  const View turned = *View::Concat({*View::Slice(grid, 0, 2, 2), *View::Slice(grid, 0, 0, 2)}, 0);
  bench->Lay({{"bytes", source.Of("bytes")},
              {"empty", source.Of("empty")},
              {"float6", source.Of("float6")},
              {"half", *View::Cast(turned, DType::kBFloat16)},
              {"complex", source.Of("complex")},
              {"scalar", source.Of("scalar")},
              {"last", *View::Slice(source.Of("bytes"), 0, 2, 0)}},
             "header.");
}

TEST(WindowTest, AnyCutsGiveTheSameFile) {
  Bench bench;
  FillBench(&bench);
  const std::string want = Expected(bench.plan.files[0], bench.source);
  ASSERT_EQ(want.size(), bench.plan.files[0].size);
  for (uint64_t step = 1; step <= want.size() + 1; ++step)
    ASSERT_EQ(bench.Make(step), want) << "windows of " << step << " bytes";
}

// A whole window of an element type whose size does not divide it, and of rows longer than it.
TEST(WindowTest, FullWindowsOfLongRows) {
  Bench bench;
  bench.source.Add("w", DType::kFloat6E3M2x4, {3, 60'000}, Noise(540'000, 7),
                   {{.start = {0, 0}, .extent = {3, 1}}, {.start = {0, 1}, .extent = {3, 59'999}}});
  bench.source.Open();
  bench.Lay({{"w", bench.source.Of("w")}}, "h");
  EXPECT_EQ(bench.Make(kWindowBytes), Expected(bench.plan.files[0], bench.source));
}

// Two tensors behind each other, the second transposed: its windows are as wide as they may be.
TEST(WindowTest, TransposedDataIsMadeInWideWindows) {
  Bench bench;
  bench.source.Add("w", DType::kInt16, {700, 800}, Noise(1'120'000, 7),
                   {{.start = {0, 0}, .extent = {300, 800}},
                    {.start = {300, 0}, .extent = {400, 800}, .spread = 2}});
  bench.source.Open();
  const View w = bench.source.Of("w");
  bench.Lay({{"straight", w}, {"turned", *View::Permute(w, {1, 0})}}, "h");
  const FilePlan& file = bench.plan.files[0];
  const std::atomic<bool> never = false;
  const auto layouts = ChunkLayouts::Locate(ChunksOf(bench.plan, bench.source.catalog()), bench.source, 1, &never);
  const ChunkIndex index(bench.source.catalog());
  const size_t widest = 3 * kWindowBytes;
  WindowFiller filler(bench.source, index, *layouts, widest);
  EXPECT_EQ(filler.BestWindow(file, 0, 1'120'001), kWindowBytes);
  EXPECT_EQ(filler.BestWindow(file, 1'120'001, file.size), widest);
  EXPECT_EQ(filler.BestWindow(file, 0, file.size), widest);
  EXPECT_EQ(WindowFiller(bench.source, index, *layouts).BestWindow(file, 0, file.size),
            kWindowBytes);
  std::string bytes;
  for (uint64_t begin = 0; begin < file.size; begin += widest) {
    const auto window = filler.Fill(file, begin, std::min<uint64_t>(file.size, begin + widest),
                                    [](const Slot&, size_t) {});
    ASSERT_TRUE(window);
    bytes.append(reinterpret_cast<const char*>(window->data()), window->size());
  }
  EXPECT_TRUE(bytes == Expected(file, bench.source));
}

TEST(WindowTest, AnOverflowIsCountedOnceWhereverWindowsCut) {
  Bench bench;
  bench.source.Add("w", DType::kFloat32, {8},
                   BytesOfValues<float>({1, 1e9, 2, -1e9, 3, 4, 5, 1e9}));
  bench.source.Open();
  bench.Lay({{"w", *View::Cast(bench.source.Of("w"), DType::kFloat16)}}, "odd");
  for (uint64_t step : {1, 2, 3, 4, 5, 100}) {
    std::map<std::string, size_t> overflows;
    bench.Make(step, &overflows);
    EXPECT_EQ(overflows, (std::map<std::string, size_t>{{"w", 3}})) << step;
  }
}

TEST(WindowTest, AnErrorNamesTheTensor) {
  Bench bench;
  FillBench(&bench);
  bench.source.on_read = [](uint64_t, size_t) -> Result<> {
    return std::unexpected(Error{.kind = ErrorKind::kSource, .found = "gone"});
  };
  const std::atomic<bool> never = false;
  const auto layouts = ChunkLayouts::Locate(ChunksOf(bench.plan, bench.source.catalog()), bench.source, 1, &never);
  const ChunkIndex index(bench.source.catalog());
  WindowFiller filler(bench.source, index, *layouts);
  const auto window = filler.Fill(bench.plan.files[0], 0, 10, [](const Slot&, size_t) {});
  ASSERT_FALSE(window);
  EXPECT_EQ(window.error().tensor, "bytes");
  EXPECT_EQ(window.error().found, "gone");
}

}  // namespace
}  // namespace reshard
