#include "engine/box_filler.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/try.h"
#include "engine/cast.h"
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
    if (region.source != Region::kFill) return index_.Cut(region, copy);
    FillLoops(EncodeValue(region.fill, view.dtype()), region.loops, dst + region.dst * size);
    return {};
  };
  RESHARD_TRY(Lower(view, box.start, box.extent, strides, fill));
  return overflows;
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
