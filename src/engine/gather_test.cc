#include "engine/gather.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "engine/engine_test_support.h"

namespace reshard {
namespace {

// One file of bytes; counts the reads.
class BytesSource final : public Source {
 public:
  explicit BytesSource(std::string bytes) : bytes_(std::move(bytes)) {}
  const Catalog& catalog() const override { return catalog_; }
  std::string_view kind() const override { return "bytes"; }
  std::string_view evidence() const override { return ""; }
  const std::string& root() const override { return bytes_; }
  const std::vector<std::string>& notes() const override { return notes_; }
  Result<ChunkLayout> Locate(const Tensor&, const Chunk&) const override { return ChunkLayout{}; }
  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override {
    ++reads;
    largest = std::max(largest, out.size());
    EXPECT_EQ(file, 3u);
    return MemorySource(bytes_, "bytes").ReadAt(offset, out);
  }
  const std::string& bytes() const { return bytes_; }
  mutable size_t reads = 0;
  mutable size_t largest = 0;

 private:
  std::string bytes_;
  Catalog catalog_;
  std::vector<std::string> notes_;
};

bool IsComplex(DType dtype) {
  return dtype == DType::kComplex32 || dtype == DType::kComplex64 || dtype == DType::kComplex128;
}

// One element as it is meant, from how it is stored.
std::string Restore(std::string element, DType dtype, const ChunkLayout& layout) {
  const size_t parts = IsComplex(dtype) ? 2 : 1, size = element.size() / parts;
  for (size_t part = 0; part < parts; ++part) {
    const auto begin = element.begin() + static_cast<std::ptrdiff_t>(part * size);
    if (layout.swap_bytes) std::reverse(begin, begin + static_cast<std::ptrdiff_t>(size));
    int flips = layout.negate;
    if (part == 1) flips += layout.conjugate;
    if (flips % 2 == 1) element[part * size + size - 1] ^= static_cast<char>(0x80);
  }
  return element;
}

// The definition: one element at a time.
size_t CopyByElement(const std::string& file, const ChunkLayout& layout, int64_t first,
                     const StridedCopy& copy, char* dst) {
  const int64_t from_size = ItemSize(copy.from), to_size = ItemSize(copy.to);
  Shape extents;
  for (const StridedLoop& loop : copy.loops) extents.push_back(loop.extent);
  size_t overflows = 0;
  ForEachElement(extents, [&](const Shape& at) {
    int64_t src_at = first, dst_at = 0;
    for (size_t i = 0; i < at.size(); ++i) {
      src_at += at[i] * copy.loops[i].src_stride;
      dst_at += at[i] * copy.loops[i].dst_stride;
    }
    const std::string element =
        Restore(file.substr(layout.offset + static_cast<uint64_t>(src_at * from_size),
                            static_cast<size_t>(from_size)),
                copy.from, layout);
    const auto* src = reinterpret_cast<const std::byte*>(element.data());
    auto* to = reinterpret_cast<std::byte*>(dst + dst_at * to_size);
    if (copy.from == copy.to)
      std::memcpy(to, src, element.size());
    else
      overflows += Cast(copy.from, src, copy.to, to, 1);
  });
  return overflows;
}

// Floats that a narrower type holds exactly, some that it cannot hold, and no NaN: its bits are not
// specified.
std::string RandomElements(DType dtype, size_t count, bool swapped, uint32_t seed) {
  if (!IsCastable(dtype)) return Noise(count * static_cast<size_t>(ItemSize(dtype)), seed);
  std::minstd_rand random(seed + 1);
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    const double value = random() % 16 == 0 ? 3e38 : static_cast<double>(random() % 200) - 100;
    std::string element(static_cast<size_t>(ItemSize(dtype)), '\0');
    Cast(DType::kFloat64, reinterpret_cast<const std::byte*>(&value), dtype,
         reinterpret_cast<std::byte*>(element.data()), 1);
    if (swapped) std::ranges::reverse(element);
    bytes += element;
  }
  return bytes;
}

// Strides for the extents of `loops`, densest dimension drawn at random, with gaps.
int64_t DrawStrides(std::vector<StridedLoop>* loops, bool source) {
  std::vector<size_t> order(loops->size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), std::minstd_rand(*rc::gen::inRange(0u, 1000u)));
  int64_t stride = source ? *rc::gen::element(1, 1, 1, 2, 7, 3000) : *rc::gen::element(1, 1, 3);
  int64_t span = 1;
  for (size_t i : order) {
    StridedLoop& loop = (*loops)[i];
    (source ? loop.src_stride : loop.dst_stride) = stride;
    span += (loop.extent - 1) * stride;
    stride = stride * loop.extent + *rc::gen::element(0, 0, 0, 1, 700);
  }
  return span;
}

TEST(GatherTest, IsTheCopyElementByElement) {
  EXPECT_TRUE(rc::check([] {
    using D = DType;
    const bool casts = *rc::gen::arbitrary<bool>();
    const D from =
        casts ? *rc::gen::element(D::kFloat16, D::kBFloat16, D::kFloat32, D::kFloat64)
              : *rc::gen::element(D::kInt8, D::kFloat6E2M3x4, D::kBFloat16, D::kFloat32,
                                  D::kFloat64, D::kComplex32, D::kComplex64, D::kComplex128);
    const D to =
        casts ? *rc::gen::element(D::kFloat16, D::kBFloat16, D::kFloat32, D::kFloat64) : from;
    StridedCopy copy{.from = from, .to = to};
    for (int i = *rc::gen::inRange(0, 4); i > 0; --i)
      copy.loops.push_back({.extent = *rc::gen::element(1, 2, 3, 5, i == 1 ? 300 : 4)});
    const int64_t src_span = DrawStrides(&copy.loops, true);
    const int64_t dst_span = DrawStrides(&copy.loops, false);
    RC_PRE(src_span * ItemSize(from) < 4 << 20 && dst_span * ItemSize(to) < 4 << 20);

    ChunkLayout layout{.file = 3, .offset = *rc::gen::inRange<uint64_t>(0, 20)};
    const bool is_float = casts || IsComplex(from) || from == D::kFloat32;
    layout.swap_bytes = from != D::kFloat6E2M3x4 && *rc::gen::arbitrary<bool>();
    layout.negate = is_float && *rc::gen::arbitrary<bool>();
    layout.conjugate = IsComplex(from) && *rc::gen::arbitrary<bool>();
    const int64_t first = *rc::gen::inRange<int64_t>(0, 4);
    const std::string file =
        Noise(layout.offset, 1) + RandomElements(from, static_cast<size_t>(first + src_span),
                                                 layout.swap_bytes, *rc::gen::inRange(0u, 100u));

    std::string want(static_cast<size_t>(dst_span * ItemSize(to)) + 16, '\xCD');
    std::string got = want;  // What lies between the elements must stay as it is.
    const size_t want_overflows = CopyByElement(file, layout, first, copy, want.data());
    copy.dst = reinterpret_cast<std::byte*>(got.data());
    const BytesSource source(file);
    const size_t scratch = *rc::gen::element<size_t>(16, 17, 100, 5000, 1 << 18);
    const auto overflows = Gatherer(source, scratch).Copy(layout, first, copy);
    RC_ASSERT(overflows.has_value());
    RC_ASSERT(got == want);
    RC_ASSERT(*overflows == want_overflows);
  }));
}

TEST(GatherTest, BroadcastSourcesRepeat) {
  const BytesSource source("..ab");
  std::string got(6, '.');
  const StridedCopy copy{.from = DType::kInt8,
                         .to = DType::kInt8,
                         .loops = {{3, 0, 2}, {2, 1, 1}},
                         .dst = reinterpret_cast<std::byte*>(got.data())};
  ASSERT_TRUE(Gatherer(source, 16).Copy({.file = 3, .offset = 2}, 0, copy));
  EXPECT_EQ(got, "ababab");
}

TEST(GatherTest, DenseBoxesAreReadAtOnceAndScatteredOnesAreNotReadWhole) {
  const BytesSource source(Noise(1 << 20, 0));
  std::string got(4096, '.');
  StridedCopy copy{
      .from = DType::kInt8, .to = DType::kInt8, .dst = reinterpret_cast<std::byte*>(got.data())};
  Gatherer gatherer(source, 1 << 20);
  copy.loops = {{64, 1, 64}, {64, 64, 1}};  // A transposed 64 x 64.
  ASSERT_TRUE(gatherer.Copy({.file = 3}, 0, copy));
  EXPECT_EQ(source.reads, 1u);

  source.reads = source.largest = 0;
  copy.loops = {{4, 200'000, 16}, {16, 1, 1}};  // Four short rows, far apart.
  ASSERT_TRUE(gatherer.Copy({.file = 3}, 0, copy));
  EXPECT_EQ(source.reads, 4u);
  EXPECT_EQ(source.largest, 16u);
}

// Rows too far apart to be read together, too short to be turned one by one.
TEST(GatherTest, TransposedRowsAreReadOnceEach) {
  const BytesSource source(Noise(100 * 6000, 0));
  std::string got(100 * 50, '.'), want = got;
  StridedCopy copy{.from = DType::kInt8,
                   .to = DType::kInt8,
                   .loops = {{50, 1, 100}, {100, 6000, 1}},
                   .dst = reinterpret_cast<std::byte*>(got.data())};
  CopyByElement(source.bytes(), {.file = 3}, 0, copy, want.data());
  ASSERT_TRUE(Gatherer(source, 2000).Copy({.file = 3}, 0, copy));
  EXPECT_EQ(got, want);
  EXPECT_EQ(source.reads, 100u);
  EXPECT_EQ(source.largest, 50u);
}

TEST(GatherTest, ReadsNoMoreThanTheScratchHolds) {
  const BytesSource source(Noise(4000, 0));
  std::string got(2000, '.');
  const StridedCopy copy{.from = DType::kFloat32,
                         .to = DType::kFloat16,
                         .loops = {{1000, 1, 1}},
                         .dst = reinterpret_cast<std::byte*>(got.data())};
  ASSERT_TRUE(Gatherer(source, 100).Copy({.file = 3}, 0, copy));
  EXPECT_LE(source.largest, 100u);
}

TEST(GatherTest, AFailedReadIsTheError) {
  const BytesSource source(Noise(10, 0));
  std::string got(100, '.');
  const StridedCopy copy{.from = DType::kInt8,
                         .to = DType::kInt8,
                         .loops = {{11, 1, 1}},
                         .dst = reinterpret_cast<std::byte*>(got.data())};
  const auto copied = Gatherer(source, 100).Copy({.file = 3}, 0, copy);
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().kind, ErrorKind::kSource);
  EXPECT_EQ(copied.error().file, "bytes");
}

}  // namespace
}  // namespace reshard
