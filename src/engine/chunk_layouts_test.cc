#include "engine/chunk_layouts.h"

#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "engine/engine_test_support.h"

namespace reshard {
namespace {

// Three tensors, one of them in chunks of every kind, whose chunks are not in the order of their
// names; the plan reads the first two.
class ChunkLayoutsTest : public testing::Test {
 protected:
  void SetUp() override {
    source_.Add("b", DType::kInt16, {4, 4}, Noise(32, 2),
                {{.start = {0, 0}, .extent = {2, 4}},
                 {.start = {2, 0}, .extent = {2, 2}, .transposed = true},
                 {.start = {2, 2}, .extent = {2, 2}, .spread = 3}});
    source_.Add("a", DType::kInt8, {4}, Noise(4, 1));
    source_.Add("unused", DType::kInt8, {4}, Noise(4, 3));
    source_.Open();
    FilePlan& file = plan_.files.emplace_back();
    file.slots.push_back({.name = "a", .offset = 0, .view = source_.Of("a")});
    file.slots.push_back({.name = "b", .offset = 4, .view = source_.Of("b")});
  }

  FakeSource source_;
  Plan plan_;
  std::atomic<bool> cancelled_ = false;
};

TEST_F(ChunkLayoutsTest, AreThoseThatTheSourceGives) {
  const auto layouts = ChunkLayouts::Locate(ChunksOf(plan_, source_.catalog()), source_, 3, &cancelled_);
  ASSERT_TRUE(layouts);
  const Catalog& catalog = source_.catalog();
  for (const char* name : {"a", "b"}) {
    const Tensor& tensor = *catalog.Find(name);
    for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
      const ChunkLayout want = *source_.Locate(tensor, catalog.chunks(tensor)[i]);
      const ChunkLayout got = layouts->Get(catalog, tensor, tensor.first_chunk + i);
      EXPECT_EQ(got.file, want.file);
      EXPECT_EQ(got.offset, want.offset);
      EXPECT_EQ(got.strides, want.strides) << name << " " << i;
    }
  }
}

// A source that says something of a chunk that a row-major copy would not do.
class OddSource final : public Source {
 public:
  OddSource(const Source& base, ChunkLayout layout) : base_(base), layout_(std::move(layout)) {}
  const Catalog& catalog() const override { return base_.catalog(); }
  std::string_view kind() const override { return base_.kind(); }
  std::string_view evidence() const override { return base_.evidence(); }
  const std::string& root() const override { return base_.root(); }
  const std::vector<std::string>& notes() const override { return base_.notes(); }
  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const override {
    if (tensor.name == "a") return layout_;
    return base_.Locate(tensor, chunk);
  }
  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override {
    return base_.ReadAt(file, offset, out);
  }

 private:
  const Source& base_;
  ChunkLayout layout_;
};

TEST_F(ChunkLayoutsTest, KeepsFlagsAndOtherFiles) {
  const Tensor& a = *source_.catalog().Find("a");
  for (const ChunkLayout& odd : {ChunkLayout{.offset = 5, .strides = {1}, .swap_bytes = true},
                                 ChunkLayout{.offset = 5, .strides = {1}, .conjugate = true},
                                 ChunkLayout{.offset = 5, .strides = {1}, .negate = true},
                                 ChunkLayout{.file = 9, .offset = 0, .strides = {1}}}) {
    const OddSource source(source_, odd);
    const auto layouts = ChunkLayouts::Locate(ChunksOf(plan_, source.catalog()), source, 1, &cancelled_);
    ASSERT_TRUE(layouts);
    const ChunkLayout got = layouts->Get(source.catalog(), a, a.first_chunk);
    EXPECT_EQ(std::tie(got.file, got.offset, got.swap_bytes, got.conjugate, got.negate),
              std::tie(odd.file, odd.offset, odd.swap_bytes, odd.conjugate, odd.negate));
  }
}

TEST_F(ChunkLayoutsTest, AsksOnlyAboutWhatIsRead) {
  std::mutex mutex;
  std::multiset<std::string> asked;
  source_.on_locate = [&](const Tensor& tensor) -> Result<> {
    std::lock_guard lock(mutex);
    asked.insert(tensor.name);
    return {};
  };
  ASSERT_TRUE(ChunkLayouts::Locate(ChunksOf(plan_, source_.catalog()), source_, 2, &cancelled_));
  EXPECT_EQ(asked, (std::multiset<std::string>{"a", "b", "b", "b"}));
}

TEST_F(ChunkLayoutsTest, WhatChecksReadIsReadToo) {
  plan_ = {};
  plan_.checks.push_back(
      {.name = "unused", .view = source_.Of("unused"), .equals = source_.Of("a")});
  std::multiset<std::string> asked;
  source_.on_locate = [&](const Tensor& tensor) -> Result<> {
    asked.insert(tensor.name);
    return {};
  };
  ASSERT_TRUE(ChunkLayouts::Locate(ChunksOf(plan_, source_.catalog()), source_, 1, &cancelled_));
  EXPECT_EQ(asked, (std::multiset<std::string>{"a", "unused"}));
}

TEST_F(ChunkLayoutsTest, AnErrorOfTheSourceIsTheError) {
  source_.on_locate = [](const Tensor& tensor) -> Result<> {
    if (tensor.name == "b")
      return std::unexpected(Error{.kind = ErrorKind::kSource, .found = "b is damaged"});
    return {};
  };
  const auto layouts = ChunkLayouts::Locate(ChunksOf(plan_, source_.catalog()), source_, 2, &cancelled_);
  ASSERT_FALSE(layouts);
  EXPECT_EQ(layouts.error().found, "b is damaged");
}

TEST_F(ChunkLayoutsTest, StopsWhereCancelled) {
  cancelled_ = true;
  const auto layouts = ChunkLayouts::Locate(ChunksOf(plan_, source_.catalog()), source_, 2, &cancelled_);
  ASSERT_FALSE(layouts);
  EXPECT_EQ(layouts.error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace reshard
