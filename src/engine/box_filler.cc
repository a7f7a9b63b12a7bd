#include "engine/box_filler.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/try.h"
#include "engine/cast.h"
#include "engine/dequantize.h"
#include "view/lower.h"

namespace reshard {
namespace {

// The bytes of one element; View::Fill lets only zero pass where there is no cast.
std::vector<std::byte> EncodeValue(double value, DType dtype) {
  std::vector<std::byte> bytes(static_cast<size_t>(ItemSize(dtype)));
  if (dtype == DType::kFloat64)
    std::memcpy(bytes.data(), &value, sizeof value);
  else if (value != 0)
    FindCast(DType::kFloat64, dtype)(reinterpret_cast<const std::byte*>(&value), bytes.data(), 1);
  return bytes;
}

void FillLoops(std::span<const std::byte> element, std::span<const Loop> loops, std::byte* dst) {
  if (loops.empty()) {
    std::ranges::copy(element, dst);
    return;
  }
  for (int64_t i = 0; i < loops[0].extent; ++i)
    FillLoops(element, loops.subspan(1), dst + i * loops[0].dst_stride * std::ssize(element));
}

// Float8 values and their scales that are held at once.
constexpr int64_t kMostValues = int64_t{64} << 10;
constexpr int64_t kMostScales = int64_t{16} << 10;

// The loop that reaches farthest in a tensor of this shape; the region has one.
size_t WidestLoop(const Region& region, const Shape& shape) {
  const std::vector<int64_t> strides = RowMajorStrides(shape);
  const auto widest = std::ranges::max_element(region.loops, {}, [&](const Loop& loop) {
    return (loop.extent - 1) * loop.step * strides[loop.dim];
  });
  return static_cast<size_t>(widest - region.loops.begin());
}

}  // namespace

Result<size_t> BoxFiller::Fill(const View& view, BoxView box, std::span<const int64_t> strides,
                               std::byte* dst) {
  const int64_t size = ItemSize(view.dtype());
  size_t overflows = 0;
  const auto copy = [&](const ChunkIndex::Piece& piece) -> Result<> {
    RESHARD_ASSIGN(const size_t more, CopyPiece(piece, view.dtype(), dst + piece.region.dst * size));
    overflows += more;
    return {};
  };
  const auto fill = [&](const Region& region) -> Result<> {
    if (region.dequantize) {
      RESHARD_ASSIGN(const size_t more, CopyDequantized(region, view.dtype(), dst));
      overflows += more;
      return {};
    }
    if (region.source != Region::kFill) return index_.Cut(region, copy);
    FillLoops(EncodeValue(region.fill, view.dtype()), region.loops, dst + region.dst * size);
    return {};
  };
  RESHARD_TRY(Lower(view, box.start, box.extent, strides, fill));
  return overflows;
}

Result<size_t> BoxFiller::CopyDequantized(const Region& region, DType dtype, std::byte* dst) {
  const Region box = ScalesOf(region);
  if (region.numel() > kMostValues || box.numel() > kMostScales) {
    // Halve the loop that reaches farthest; a single element fits.
    const size_t widest = WidestLoop(region, source_.catalog().tensors()[region.source].shape);
    const int64_t extent = region.loops[widest].extent, half = extent / 2;
    RESHARD_ASSIGN(const size_t lower,
                   CopyDequantized(TurnsOf(region, widest, 0, half), dtype, dst));
    RESHARD_ASSIGN(const size_t upper,
                   CopyDequantized(TurnsOf(region, widest, half, extent - half), dtype, dst));
    return lower + upper;
  }
  RESHARD_TRY(ReadScales(box));
  Region values = region;
  values.dst = 0;
  const std::vector<int64_t> strides = PackedStrides(values);
  for (size_t i = 0; i < strides.size(); ++i) values.loops[i].dst_stride = strides[i];
  values_.resize(static_cast<size_t>(values.numel()));
  RESHARD_TRY(CopyRegion(values, values_.data()));
  return Dequantizer(region.source_dtype, dtype)
      .Multiply(region, values_.data(), {box, scales_}, dst);
}

Result<> BoxFiller::ReadScales(const Region& box) {
  const auto count = static_cast<size_t>(box.numel());
  scales_.resize(count);
  values_.resize(count * static_cast<size_t>(ItemSize(box.source_dtype)));
  RESHARD_TRY(CopyRegion(box, values_.data()));
  if (IsCastable(box.source_dtype)) {
    Cast(box.source_dtype, values_.data(), DType::kFloat32,
         reinterpret_cast<std::byte*>(scales_.data()), count);
  } else {
    const auto& decoded = Float8Values(box.source_dtype);
    for (size_t i = 0; i < count; ++i) scales_[i] = decoded[std::to_integer<size_t>(values_[i])];
  }
  return {};
}

// As it is stored.
Result<> BoxFiller::CopyRegion(const Region& region, std::byte* dst) {
  const int64_t size = ItemSize(region.source_dtype);
  return index_.Cut(region, [&](const ChunkIndex::Piece& piece) -> Result<> {
    RESHARD_TRY(CopyPiece(piece, region.source_dtype, dst + piece.region.dst * size));
    return {};
  });
}

Result<size_t> BoxFiller::CopyPiece(const ChunkIndex::Piece& piece, DType dtype, std::byte* dst) {
  const Region& region = piece.region;
  const Tensor& tensor = source_.catalog().tensors()[region.source];
  const ChunkLayout layout = layouts_.Get(source_.catalog(), tensor, piece.chunk);
  int64_t first = 0;
  for (size_t dim = 0; dim < region.start.size(); ++dim)
    first += region.start[dim] * layout.strides[dim];
  StridedCopy copy{.from = region.source_dtype, .to = dtype, .dst = dst};
  for (const Loop& loop : region.loops)
    copy.loops.push_back({loop.extent, layout.strides[loop.dim] * loop.step, loop.dst_stride});
  auto copied = gatherer_.Copy(layout, first, copy);
  if (!copied && copied.error().tensor.empty()) copied.error().tensor = tensor.name;
  return copied;
}

}  // namespace reshard
