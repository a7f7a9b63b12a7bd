#include "checkpoints/dcp/zstd_entry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace reshard {
namespace {

using namespace std::string_literals;

// Compressible, and without long repeats.
std::string Text(size_t count) {
  std::minstd_rand random(7);
  std::string text;
  while (text.size() < count) text += std::to_string(random());
  text.resize(count);
  return text;
}

// One frame of the zstd library; with a checksum, so that its end is more than the last block.
std::string Frame(const std::string& text, bool checksum = true) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, checksum);
  std::string frame(ZSTD_compressBound(text.size()), '\0');
  frame.resize(ZSTD_compress2(context, frame.data(), frame.size(), text.data(), text.size()));
  ZSTD_freeCCtx(context);
  return frame;
}

// Holds its bytes.
class Stored final : public ByteSource {
 public:
  explicit Stored(std::string bytes) : bytes_(std::move(bytes)) {}
  uint64_t size() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  uint64_t origin() const override { return 4096; }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    return MemorySource(bytes_, name_).ReadAt(offset, out);
  }

 private:
  std::string bytes_;
  std::string name_ = "__0_0.distcp";
};

Result<std::unique_ptr<ZstdEntry>> Open(std::string bytes) {
  return ZstdEntry::Open(std::make_unique<Stored>(std::move(bytes)));
}

std::string Read(const ByteSource& entry, uint64_t offset, size_t length) {
  std::string out(length, '.');
  const auto read = entry.ReadAt(offset, std::as_writable_bytes(std::span(out)));
  return read ? out : read.error().ToString();
}

// Sizes around what zstd hands out at once.
TEST(ZstdEntryTest, WholeEntries) {
  for (const size_t size : {size_t{0}, size_t{1}, ZSTD_DStreamOutSize() - 1, ZSTD_DStreamOutSize(),
                            2 * ZSTD_DStreamOutSize(), size_t{1'000'003}})
    for (const bool checksum : {false, true}) {
      const std::string text = Text(size);
      const auto entry = Open(Frame(text, checksum));
      ASSERT_TRUE(entry) << entry.error().ToString();
      EXPECT_EQ((*entry)->size(), size);
      EXPECT_TRUE(Read(**entry, 0, size) == text) << size;
    }
}

TEST(ZstdEntryTest, SeveralFramesAreOneEntry) {
  const std::string text = Text(500'000);
  // The third is a frame that decoders skip: magic, length, three bytes.
  const auto entry = Open(Frame(text.substr(0, 100'000)) + Frame("") +
                          "\x50\x2A\x4D\x18\x03\0\0\0abc"s + Frame(text.substr(100'000), false));
  ASSERT_TRUE(entry) << entry.error().ToString();
  EXPECT_EQ((*entry)->size(), text.size());
  EXPECT_TRUE(Read(**entry, 0, text.size()) == text);
  EXPECT_EQ(Read(**entry, 99'990, 20), text.substr(99'990, 20));
}

TEST(ZstdEntryTest, ForwardBackwardAndPastTheEnd) {
  const std::string text = Text(300'000);
  const auto entry = Open(Frame(text));
  ASSERT_TRUE(entry);
  for (uint64_t offset : {0u, 10u, 299'990u, 5u, 150'000u, 150'010u, 149'999u, 299'000u})
    EXPECT_EQ(Read(**entry, offset, 10), text.substr(offset, 10)) << offset;
  EXPECT_EQ(Read(**entry, 300'000, 0), "");
  for (const uint64_t offset : {uint64_t{299'991}, uint64_t{300'001}, UINT64_MAX}) {
    std::string out(10, '.');
    const auto read = (*entry)->ReadAt(offset, std::as_writable_bytes(std::span(out)));
    ASSERT_FALSE(read) << offset;
    EXPECT_EQ(read.error().kind, ErrorKind::kSource);
  }
}

TEST(ZstdEntryTest, FromSeveralThreads) {
  const std::string text = Text(400'000);
  const auto entry = Open(Frame(text.substr(0, 200'000)) + Frame(text.substr(200'000)));
  ASSERT_TRUE(entry);
  std::atomic<int> wrong = 0;
  std::vector<std::jthread> threads;
  for (uint32_t seed = 0; seed < 12; ++seed)  // More than streams are kept.
    threads.emplace_back([&, seed] {
      std::minstd_rand random(seed + 1);
      for (int i = 0; i < 15; ++i) {
        const size_t offset = random() % text.size();
        const size_t length = random() % (text.size() - offset);
        wrong += Read(**entry, offset, length) != text.substr(offset, length);
      }
    });
  threads.clear();
  EXPECT_EQ(wrong, 0);
}

TEST(ZstdEntryTest, Truncated) {
  const std::string whole = Frame(Text(3000)) + Frame(Text(200), false);
  const size_t first = Frame(Text(3000)).size();
  for (size_t length = 1; length < whole.size(); ++length) {
    if (length == first) continue;  // A whole frame.
    const auto entry = Open(whole.substr(0, length));
    ASSERT_FALSE(entry) << length;
    EXPECT_EQ(entry.error().kind, ErrorKind::kSource);
    EXPECT_EQ(entry.error().file, "__0_0.distcp");
    EXPECT_EQ(entry.error().offset, 4096u);
  }
}

TEST(ZstdEntryTest, DamagedAndForeign) {
  std::string damaged = Frame(Text(3000));
  damaged[damaged.size() / 2] ^= 0x55;
  EXPECT_FALSE(Open(damaged)) << "the checksum tells";
  EXPECT_FALSE(Open("PK\x03\x04 not zstd at all"));
  EXPECT_FALSE(Open(Frame(Text(10)) + "trailing bytes"));
}

// A header may ask for any window: what decoding takes must stay bounded. The descriptor's upper
// five bits are the window's logarithm less ten (RFC 8878, 3.1.1.1.2); then an empty last block.
TEST(ZstdEntryTest, HugeWindowsAreRefused) {
  const auto with_window = [](int log) {
    return "\x28\xB5\x2F\xFD"s + '\0' + static_cast<char>((log - 10) << 3) + "\x01\0\0"s;
  };
  EXPECT_EQ(Open(with_window(20)).value()->size(), 0u);
  const auto entry = Open(with_window(31));
  ASSERT_FALSE(entry);
  EXPECT_THAT(entry.error().found, testing::HasSubstr("zstd"));
}

// Bytes that change after the entry was opened, to a frame that is shorter.
TEST(ZstdEntryTest, AnEntryThatShrinksIsAnError) {
  class Changing final : public ByteSource {
   public:
    explicit Changing(const std::string* bytes) : bytes_(bytes) {}
    uint64_t size() const override { return bytes_->size(); }
    const std::string& name() const override { return name_; }
    Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override {
      return MemorySource(*bytes_, name_).ReadAt(offset, out);
    }

   private:
    const std::string* bytes_;
    std::string name_ = "f";
  };
  std::string bytes = Frame(Text(1000));
  const auto entry = ZstdEntry::Open(std::make_unique<Changing>(&bytes));
  ASSERT_TRUE(entry);
  bytes = Frame("short");
  std::string out(10, '.');
  EXPECT_FALSE((*entry)->ReadAt(500, std::as_writable_bytes(std::span(out))));
}

}  // namespace
}  // namespace reshard
