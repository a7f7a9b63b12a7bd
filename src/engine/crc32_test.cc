#include "engine/crc32.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <string>
#include <vector>

namespace reshard {
namespace {

std::vector<std::byte> Noise(size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

uint32_t OfZlib(uint32_t crc, std::span<const std::byte> bytes) {
  return static_cast<uint32_t>(
      crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

TEST(Crc32Test, IsTheOneOfZip) {
  const std::string text = "123456789";  // the check value that every catalogue of CRCs gives
  EXPECT_EQ(UpdateCrc32(0, std::as_bytes(std::span(text))), 0xcbf43926u);
}

TEST(Crc32Test, NothingChangesNothing) {
  EXPECT_EQ(UpdateCrc32(0, std::as_bytes(std::span<const char>("", 0))), 0u);
  EXPECT_EQ(UpdateCrc32(0x12345678, std::as_bytes(std::span<const char>("", 0))), 0x12345678u);
}

TEST(Crc32Test, EqualsZlibAtEveryLength) {
  for (size_t size = 0; size <= 400; ++size) {
    const auto bytes = Noise(size);
    EXPECT_EQ(UpdateCrc32(0, bytes), OfZlib(0, bytes)) << size;
    EXPECT_EQ(UpdateCrc32(0xdeadbeef, bytes), OfZlib(0xdeadbeef, bytes)) << size;
  }
  const auto bytes = Noise(1'000'003);
  EXPECT_EQ(UpdateCrc32(7, bytes), OfZlib(7, bytes));
}

TEST(Crc32Test, EqualsZlibAtEveryAlignmentAndInParts) {
  const auto bytes = Noise(1000);
  for (size_t from = 0; from < 64; ++from) {
    const auto part = std::span(bytes).subspan(from);
    EXPECT_EQ(UpdateCrc32(0, part), OfZlib(0, part)) << from;
    EXPECT_EQ(UpdateCrc32(UpdateCrc32(0, part.first(from * 7)), part.subspan(from * 7)),
              OfZlib(0, part))
        << from;
  }
}

TEST(Crc32Test, ZerosCount) {
  const std::vector<std::byte> zeros(257);
  for (size_t size = 0; size <= zeros.size(); ++size) {
    const auto part = std::span(zeros).first(size);
    EXPECT_EQ(UpdateCrc32(0, part), OfZlib(0, part)) << size;
  }
}

}  // namespace
}  // namespace reshard
