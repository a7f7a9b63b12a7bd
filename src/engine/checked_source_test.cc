#include "engine/checked_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <thread>

#include "engine/engine_test_support.h"

namespace reshard {
namespace {

// One tensor over the whole of a file of noise; another file before it.
class CheckedSourceTest : public testing::Test {
 protected:
  static constexpr size_t kSize = 50'000;

  CheckedSourceTest() {
    source_.Add("w", DType::kUInt8, {kSize}, noise_);
    source_.Open();
    first_ = source_.catalog().chunks(source_.catalog().tensors()[0])[0].offset;
  }

  // The checksum of the bytes as they are, or of others.
  void Expect(bool damaged) {
    auto crc = static_cast<uint32_t>(
        crc32_z(0, reinterpret_cast<const Bytef*>(noise_.data()), noise_.size()));
    checked_.Expect({{.crc = {first_, kSize, damaged ? crc ^ 1 : crc}},
                     {.crc = {first_, kSize, damaged ? crc ^ 1 : crc}}});
  }
  Result<> Read(uint64_t begin, uint64_t end) {
    std::string bytes(end - begin, 0);
    auto read = checked_.ReadAt(0, first_ + begin, std::as_writable_bytes(std::span(bytes)));
    if (read) {
      EXPECT_EQ(bytes, noise_.substr(begin, end - begin));
    }
    return read;
  }

  const std::string noise_ = Noise(kSize, 1);
  FakeSource source_;
  uint64_t first_ = 0;
  CheckedSource checked_{source_};
};

TEST_F(CheckedSourceTest, OneReadOfTheWhole) {
  Expect(false);
  EXPECT_TRUE(Read(0, kSize));
  EXPECT_FALSE(checked_.found_damage());
  Expect(true);
  const auto read = Read(0, kSize);
  ASSERT_FALSE(read);
  EXPECT_TRUE(checked_.found_damage());
  EXPECT_EQ(read.error().kind, ErrorKind::kSource);
  EXPECT_EQ(read.error().tensor, "w");
  EXPECT_EQ(read.error().offset, first_);
}

TEST_F(CheckedSourceTest, PartsInAnyOrderThatOverlap) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    const bool damaged = round % 2 == 1;
    Expect(damaged);
    std::vector<std::pair<uint64_t, uint64_t>> parts;
    const uint64_t step = 500 + random() % 20'000;
    for (uint64_t at = 0; at < kSize; at += step) {
      const uint64_t more = random() % 3 == 0 ? random() % 3000 : 0;
      parts.emplace_back(at - std::min(at, more), std::min(kSize, at + step + more));
    }
    std::ranges::shuffle(parts, random);
    size_t faults = 0;
    for (const auto& [begin, end] : parts) faults += !Read(begin, end);
    EXPECT_EQ(faults, damaged ? 1u : 0u) << round;
  }
}

TEST_F(CheckedSourceTest, SeveralThreads) {
  for (const bool damaged : {false, true}) {
    Expect(damaged);
    std::atomic<uint64_t> next = 0;
    std::atomic<size_t> faults = 0;
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
          for (uint64_t at = next++ * 100; at < kSize; at = next++ * 100) {
            std::string bytes(150, 0);  // Each half of a piece is read by two of them.
            bytes.resize(std::min<uint64_t>(150, kSize - at));
            faults +=
                !checked_.ReadAt(0, first_ + at, std::as_writable_bytes(std::span(bytes)));
          }
        });
    }
    EXPECT_EQ(faults, damaged ? 1u : 0u);
  }
}

TEST_F(CheckedSourceTest, APartAloneIsNotCompared) {
  Expect(true);
  EXPECT_TRUE(Read(0, kSize - 1));
  EXPECT_TRUE(Read(1, kSize - 1));
  EXPECT_FALSE(Read(kSize - 1, kSize));
}

// Every other byte alone: the account of it would be larger than it is worth.
TEST_F(CheckedSourceTest, VeryManyPiecesAreGivenUp) {
  Expect(true);
  for (uint64_t at = 0; at < kSize; at += 2) EXPECT_TRUE(Read(at, at + 1));
  EXPECT_TRUE(Read(0, kSize));
}

TEST_F(CheckedSourceTest, ReadsOfOtherPlacesAreNot) {
  Expect(true);
  std::string bytes(first_, 0);
  EXPECT_TRUE(checked_.ReadAt(0, 0, std::as_writable_bytes(std::span(bytes))));
  checked_.Expect({});
  EXPECT_TRUE(Read(0, kSize));
}

}  // namespace
}  // namespace reshard
