#include "engine/gather.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

#include "base/try.h"

namespace reshard {
namespace {

// A box is read in one piece, gaps included, where at least one byte in this many is wanted: what a
// read of its own costs is worth a few kilobytes of reading past gaps.
constexpr int64_t kMaxGapFactor = 4;
constexpr int64_t kCheapBytes = 16 << 10;

// Elements that a strided cast takes at once.
constexpr int64_t kBatch = 256;

template <size_t kSize>
void CopyElements(const std::byte* src, int64_t src_stride, std::byte* dst, int64_t dst_stride,
                  int64_t count) {
  const int64_t size = kSize;
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(dst + i * dst_stride * size, src + i * src_stride * size, kSize);
}

void CopyStrided(const std::byte* src, int64_t src_stride, std::byte* dst, int64_t dst_stride,
                 int64_t count, int64_t size) {
  switch (size) {
    case 1: return CopyElements<1>(src, src_stride, dst, dst_stride, count);
    case 2: return CopyElements<2>(src, src_stride, dst, dst_stride, count);
    case 3: return CopyElements<3>(src, src_stride, dst, dst_stride, count);
    case 4: return CopyElements<4>(src, src_stride, dst, dst_stride, count);
    case 8: return CopyElements<8>(src, src_stride, dst, dst_stride, count);
    case 16: return CopyElements<16>(src, src_stride, dst, dst_stride, count);
  }
}

// Drops loops of one element and merges neighbours that together are one loop.
void Normalize(std::vector<StridedLoop>* loops) {
  std::erase_if(*loops, [](const StridedLoop& loop) { return loop.extent == 1; });
  size_t kept = 0;
  for (size_t i = 0; i < loops->size(); ++i) {
    const StridedLoop loop = (*loops)[i];
    if (kept > 0) {
      StridedLoop& outer = (*loops)[kept - 1];
      if (outer.src_stride == loop.src_stride * loop.extent &&
          outer.dst_stride == loop.dst_stride * loop.extent) {
        outer = {outer.extent * loop.extent, loop.src_stride, loop.dst_stride};
        continue;
      }
    }
    (*loops)[kept++] = loop;
  }
  loops->resize(kept);
}

}  // namespace

struct Gatherer::Job {
  const ChunkLayout& layout;
  DType from;
  DType to;
  CastFn cast;  // null where the types are the same
  size_t overflows = 0;

  bool fixes() const { return layout.swap_bytes || layout.conjugate || layout.negate; }

  // Undoes what the file stores differently, for every element of a buffer.
  void Fix(std::span<std::byte> bytes) const {
    const bool is_complex = from == DType::kComplex32 || from == DType::kComplex64 ||
                            from == DType::kComplex128;
    const size_t size = static_cast<size_t>(ItemSize(from)) / (is_complex ? 2 : 1);
    for (size_t i = 0; i + size <= bytes.size(); i += size) {
      std::byte* part = bytes.data() + i;
      if (layout.swap_bytes) std::reverse(part, part + size);
      const bool imaginary = is_complex && (i / size) % 2 == 1;
      if (layout.negate != (layout.conjugate && imaginary)) part[size - 1] ^= std::byte{0x80};
    }
  }

  void Row(const std::byte* src, std::byte* dst, const StridedLoop& loop) {
    const int64_t from_size = ItemSize(from), to_size = ItemSize(to);
    if (loop.src_stride == 1 && loop.dst_stride == 1) {
      if (cast)
        overflows += cast(src, dst, static_cast<size_t>(loop.extent));
      else
        std::memcpy(dst, src, static_cast<size_t>(loop.extent * from_size));
      return;
    }
    if (!cast) return CopyStrided(src, loop.src_stride, dst, loop.dst_stride, loop.extent, to_size);
    std::array<std::byte, kBatch * 8> gathered, converted;
    for (int64_t i = 0; i < loop.extent; i += kBatch) {
      const int64_t count = std::min(kBatch, loop.extent - i);
      CopyStrided(src + i * loop.src_stride * from_size, loop.src_stride, gathered.data(), 1, count,
                  from_size);
      overflows += cast(gathered.data(), converted.data(), static_cast<size_t>(count));
      CopyStrided(converted.data(), 1, dst + i * loop.dst_stride * to_size, loop.dst_stride, count,
                  to_size);
    }
  }

  void Scatter(const std::byte* src, std::byte* dst, std::span<const StridedLoop> loops) {
    if (loops.empty()) return Row(src, dst, {1, 1, 1});
    if (loops.size() == 1) return Row(src, dst, loops[0]);
    const StridedLoop& outer = loops[0];
    for (int64_t i = 0; i < outer.extent; ++i)
      Scatter(src + i * outer.src_stride * ItemSize(from),
              dst + i * outer.dst_stride * ItemSize(to), loops.subspan(1));
  }
};

Result<> Gatherer::CopyNest(Job& job, std::vector<StridedLoop> loops, uint64_t offset,
                            std::byte* dst) {
  const int64_t size = ItemSize(job.from);
  int64_t span = 1, wanted = 1;
  for (const StridedLoop& loop : loops) {
    span += (loop.extent - 1) * loop.src_stride;
    wanted *= loop.extent;
  }
  const bool one_run = loops.empty() || (loops.size() == 1 && loops[0].src_stride == 1 &&
                                         loops[0].dst_stride == 1);
  if (one_run && !job.cast) {
    const std::span<std::byte> out(dst, static_cast<size_t>(span * size));
    RESHARD_TRY(source_.ReadAt(job.layout.file, offset, out));
    if (job.fixes()) job.Fix(out);
    return {};
  }
  const bool fits = span * size <= std::ssize(scratch_);
  if (fits && (span <= wanted * kMaxGapFactor || span * size <= kCheapBytes)) {
    const std::span<std::byte> in = std::span(scratch_).first(static_cast<size_t>(span * size));
    RESHARD_TRY(source_.ReadAt(job.layout.file, offset, in));
    if (job.fixes()) job.Fix(in);
    job.Scatter(in.data(), dst, loops);
    return {};
  }
  // Halve the loop that reaches farthest. One of them has two or more turns: a single element fits.
  const auto widest = std::ranges::max_element(loops, {}, [](const StridedLoop& loop) {
    return (loop.extent - 1) * loop.src_stride;
  });
  const StridedLoop whole = *widest;
  const int64_t half = whole.extent / 2;
  const size_t index = static_cast<size_t>(widest - loops.begin());
  const auto part = [&](int64_t extent) {
    std::vector<StridedLoop> copy = loops;
    copy[index].extent = extent;
    Normalize(&copy);
    return copy;
  };
  RESHARD_TRY(CopyNest(job, part(half), offset, dst));
  return CopyNest(job, part(whole.extent - half),
                  offset + static_cast<uint64_t>(half * whole.src_stride * size),
                  dst + half * whole.dst_stride * ItemSize(job.to));
}

Result<size_t> Gatherer::Copy(const ChunkLayout& layout, int64_t first, const StridedCopy& copy) {
  Job job{.layout = layout,
          .from = copy.from,
          .to = copy.to,
          .cast = copy.from == copy.to ? nullptr : FindCast(copy.from, copy.to)};
  std::vector<StridedLoop> loops = copy.loops;
  Normalize(&loops);
  RESHARD_TRY(CopyNest(job, std::move(loops),
                       layout.offset + static_cast<uint64_t>(first * ItemSize(copy.from)),
                       copy.dst));
  return job.overflows;
}

}  // namespace reshard
