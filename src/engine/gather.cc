#include "engine/gather.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <span>

#include "base/try.h"
#include "engine/strided.h"

namespace reshard {
namespace {

// Transposed data is moved in stripes of this many rows, whose lines stay in the L1 cache.
constexpr int64_t kTile = 32;

// Elements that a strided cast takes at once.
constexpr int64_t kBatch = 256;

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
    const bool is_complex =
        from == DType::kComplex32 || from == DType::kComplex64 || from == DType::kComplex128;
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

  // The last two loops of a transposed box.
  void Tiles(const std::byte* src, std::byte* dst, const StridedLoop& outer,
             const StridedLoop& inner) {
    const int64_t from_size = ItemSize(from), to_size = ItemSize(to);
    for (int64_t j = 0; j < inner.extent; j += kTile) {
      const StridedLoop row{std::min(kTile, inner.extent - j), inner.src_stride, inner.dst_stride};
      for (int64_t i = 0; i < outer.extent; ++i)
        Row(src + (i * outer.src_stride + j * inner.src_stride) * from_size,
            dst + (i * outer.dst_stride + j * inner.dst_stride) * to_size, row);
    }
  }

  void Scatter(const std::byte* src, std::byte* dst, std::span<const StridedLoop> loops) {
    if (loops.empty()) return Row(src, dst, {1, 1, 1});
    if (loops.size() == 1) return Row(src, dst, loops[0]);
    if (loops.size() == 2 && loops[0].src_stride < loops[1].src_stride)
      return Tiles(src, dst, loops[0], loops[1]);
    const StridedLoop& outer = loops[0];
    for (int64_t i = 0; i < outer.extent; ++i)
      Scatter(src + i * outer.src_stride * ItemSize(from),
              dst + i * outer.dst_stride * ItemSize(to), loops.subspan(1));
  }
};

// How a nest is read: its innermost loops by the source's order, as far as their turns lie close
// together, are a piece; the others say where the pieces start.
struct Gatherer::Pieces {
  std::vector<size_t> order;  // of the loops, closest turns first
  size_t inner = 0;           // of them, how many make a piece
  int64_t span = 1;           // of a piece, in elements
  int64_t count = 1;
  bool too_long = false;  // the next loop would make a longer piece than the scratch holds
};

Gatherer::Pieces Gatherer::FindPieces(std::span<const StridedLoop> loops, int64_t size) const {
  Pieces pieces;
  pieces.order.resize(loops.size());
  std::iota(pieces.order.begin(), pieces.order.end(), size_t{0});
  std::ranges::stable_sort(pieces.order, {}, [&](size_t i) { return loops[i].src_stride; });
  int64_t wanted = 1;
  for (; pieces.inner < loops.size(); ++pieces.inner) {
    const StridedLoop& loop = loops[pieces.order[pieces.inner]];
    const int64_t span = pieces.span + (loop.extent - 1) * loop.src_stride;
    wanted *= loop.extent;
    if (span > wanted * gaps_.factor && (loop.src_stride - pieces.span) * size > gaps_.bytes) break;
    pieces.too_long = span * size > std::ssize(scratch_);
    if (pieces.too_long) break;
    pieces.span = span;
  }
  for (size_t i = pieces.inner; i < loops.size(); ++i)
    pieces.count *= loops[pieces.order[i]].extent;
  return pieces;
}

Result<> Gatherer::ReadPieces(const Job& job, std::span<const StridedLoop> loops,
                              const Pieces& pieces, uint64_t offset, std::byte* out) {
  const int64_t size = ItemSize(job.from);
  for (int64_t i = 0; i < pieces.count; ++i) {
    int64_t left = i, at = 0;
    for (size_t k = pieces.inner; k < loops.size(); ++k) {
      const StridedLoop& loop = loops[pieces.order[k]];
      at += left % loop.extent * loop.src_stride;
      left /= loop.extent;
    }
    const std::span<std::byte> piece(out + i * pieces.span * size,
                                     static_cast<size_t>(pieces.span * size));
    RESHARD_TRY(source_.ReadAt(job.layout.file, offset + static_cast<uint64_t>(at * size), piece));
    if (job.fixes()) job.Fix(piece);
  }
  return {};
}

Result<> Gatherer::CopyNest(Job& job, std::vector<StridedLoop> loops, uint64_t offset,
                            std::byte* dst) {
  const int64_t size = ItemSize(job.from);
  const bool one_run =
      loops.empty() || (loops.size() == 1 && loops[0].src_stride == 1 && loops[0].dst_stride == 1);
  if (one_run && !job.cast) {
    const int64_t length = loops.empty() ? 1 : loops[0].extent;
    const std::span<std::byte> out(dst, static_cast<size_t>(length * size));
    RESHARD_TRY(source_.ReadAt(job.layout.file, offset, out));
    if (job.fixes()) job.Fix(out);
    return {};
  }
  const Pieces pieces = FindPieces(loops, size);
  // Rows that go to their places as they are need no scratch.
  const bool rows = !job.cast && pieces.inner == 1 && pieces.count > 1 &&
                    loops[pieces.order[0]].src_stride == 1 &&
                    loops[pieces.order[0]].dst_stride == 1;
  const bool fits = pieces.span * pieces.count * size <= std::ssize(scratch_);
  if (!pieces.too_long && !rows && fits) {
    RESHARD_TRY(ReadPieces(job, loops, pieces, offset, scratch_.data()));
    int64_t stride = pieces.span;
    for (size_t i = pieces.inner; i < loops.size(); ++i) {
      StridedLoop& loop = loops[pieces.order[i]];
      loop.src_stride = stride;
      stride *= loop.extent;
    }
    job.Scatter(scratch_.data(), dst, loops);
    return {};
  }
  // Halve the loop that reaches farthest. One of them has two or more turns: a single element fits.
  const auto widest = std::ranges::max_element(
      loops, {}, [](const StridedLoop& loop) { return (loop.extent - 1) * loop.src_stride; });
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
