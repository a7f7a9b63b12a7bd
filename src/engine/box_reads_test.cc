#include "engine/box_reads.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/engine_test_support.h"

namespace reshard {
namespace {

// The largest progress that was told.
class LastProgress final : public Reporter {
 public:
  void OnProgress(const Progress& progress) override { last = progress; }
  Progress last;
};

std::vector<int64_t> RowMajor(const Shape& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t dim = shape.size(); dim-- > 1;) strides[dim - 1] = strides[dim] * shape[dim];
  return strides;
}

class BoxReadsTest : public testing::Test {
 protected:
  // 5 MB: more than one step, in chunks that no box agrees with.
  static constexpr int64_t kRows = 1300;
  static constexpr int64_t kColumns = 1000;

  void SetUp() override {
    source_.Add("a", DType::kFloat32, {kRows, kColumns}, Noise(4 * kRows * kColumns, 1),
                {{.start = {0, 0}, .extent = {700, kColumns}},
                 {.start = {700, 0}, .extent = {600, 300}, .transposed = true},
                 {.start = {700, 300}, .extent = {600, 700}}});
    source_.Add("b", DType::kFloat32, {2, 3}, BytesOfValues<float>({1, 2, 3, 1e30f, -1e30f, 6}));
    source_.Open();
  }

  Result<ViewReadReport> Run(const std::vector<ViewRead>& reads,
                             const std::vector<const Check*>& checks = {}) {
    return RunReads(reads, checks, source_, progress_, {.jobs = 3, .cancelled = &cancelled_});
  }

  FakeSource source_;
  LastProgress progress_;
  std::atomic<bool> cancelled_ = false;
};

TEST_F(BoxReadsTest, ABoxOfAViewGoesWhereTheStridesSay) {
  const View turned = *View::Permute(source_.Of("a"), {1, 0});
  const std::string whole = Materialize(turned, source_);
  const Shape start = {250, 650};
  const Shape extent = {120, 90};
  // Every second column of a wider memory.
  const int64_t row = 2 * extent[1] + 5;
  std::vector<uint32_t> memory(static_cast<size_t>(extent[0] * row), 0xABCDEF01);
  const auto report = Run({{.view = turned,
                            .start = start,
                            .extent = extent,
                            .to = reinterpret_cast<std::byte*>(memory.data()),
                            .strides = {row, 2}}});
  ASSERT_TRUE(report) << report.error().ToString();
  EXPECT_EQ(report->bytes_filled, 4u * 120 * 90);
  const auto* expected = reinterpret_cast<const uint32_t*>(whole.data());
  for (int64_t i = 0; i < extent[0]; ++i)
    for (int64_t j = 0; j < row; ++j) {
      const bool filled = j % 2 == 0 && j < 2 * extent[1];
      const int64_t at = (start[0] + i) * kRows + start[1] + j / 2;
      ASSERT_EQ(memory[static_cast<size_t>(i * row + j)], filled ? expected[at] : 0xABCDEF01)
          << i << ", " << j;
    }
}

TEST_F(BoxReadsTest, SeveralReadsAndTheProgressOfAll) {
  std::string a(4 * kRows * kColumns, '\0');
  std::string b(4 * 6, '\0');
  std::string none;
  const auto read = [&](const std::string& name, const Shape& shape, std::string* to) {
    return ViewRead{source_.Of(name), {0, 0}, shape, reinterpret_cast<std::byte*>(to->data()),
                    RowMajor(shape)};
  };
  const auto report =
      Run({read("b", {2, 3}, &b), read("a", {kRows, kColumns}, &a), read("a", {0, 4}, &none)});
  ASSERT_TRUE(report) << report.error().ToString();
  EXPECT_EQ(a, source_.Elements("a"));
  EXPECT_EQ(b, source_.Elements("b"));
  EXPECT_EQ(report->bytes_filled, a.size() + b.size());
  EXPECT_EQ(report->bytes_read, a.size() + b.size());
  EXPECT_EQ(progress_.last.bytes_done, a.size() + b.size());
  EXPECT_EQ(progress_.last.bytes_total, a.size() + b.size());
}

TEST_F(BoxReadsTest, OnlyTheBoxIsRead) {
  std::string row(4 * kColumns, '\0');
  const auto report = Run({{source_.Of("a"), {5, 0}, {1, kColumns},
                            reinterpret_cast<std::byte*>(row.data()), {kColumns, 1}}});
  ASSERT_TRUE(report);
  EXPECT_EQ(row, source_.Elements("a").substr(5 * row.size(), row.size()));
  EXPECT_EQ(report->bytes_read, row.size());
}

TEST_F(BoxReadsTest, CountsWhatBecameInfiniteByRead) {
  const View half = *View::Cast(source_.Of("b"), DType::kFloat16);
  std::vector<uint16_t> first(3), second(3);
  const auto read = [&](int64_t row, std::vector<uint16_t>* to) {
    return ViewRead{half, {row, 0}, {1, 3}, reinterpret_cast<std::byte*>(to->data()), {3, 1}};
  };
  const auto report = Run({read(0, &first), read(1, &second)});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->overflows, (std::vector<uint64_t>{0, 2}));
  EXPECT_EQ(first, (std::vector<uint16_t>{0x3C00, 0x4000, 0x4200}));
  EXPECT_EQ(second, (std::vector<uint16_t>{0x7C00, 0xFC00, 0x4600}));
}

TEST_F(BoxReadsTest, AFailedCheckIsTheAnswer) {
  const Check holds{.name = "b", .view = source_.Of("b"), .equals = source_.Of("b")};
  const Check fails{.name = "b",
                    .view = source_.Of("b"),
                    .equals = *View::Fill(DType::kFloat32, {2, 3}),
                    .why = "padding is zero"};
  EXPECT_TRUE(Run({}, {&holds}));
  EXPECT_EQ(progress_.last.bytes_done, 4u * 6);
  const auto report = Run({}, {&holds, &fails});
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::kSource);
  EXPECT_EQ(report.error().tensor, "b");
}

TEST_F(BoxReadsTest, TheSourcesErrorAndCancelling) {
  std::string b(4 * 6, '\0');
  const std::vector<ViewRead> reads = {{source_.Of("b"), {0, 0}, {2, 3},
                                        reinterpret_cast<std::byte*>(b.data()), {3, 1}}};
  source_.on_read = [](uint64_t, size_t) -> Result<> {
    return std::unexpected(Error{.kind = ErrorKind::kSource, .found = "a bad sector"});
  };
  const auto failed = Run(reads);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().found, "a bad sector");

  cancelled_ = true;
  const auto stopped = Run(reads);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace reshard
