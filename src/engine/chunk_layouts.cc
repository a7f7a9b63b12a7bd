#include "engine/chunk_layouts.h"

#include <algorithm>
#include <mutex>
#include <set>

#include "base/try.h"
#include "engine/crew.h"
#include "view/lower.h"

namespace reshard {
namespace {

std::set<uint32_t> SourcesOf(const Plan& plan) {
  std::set<uint32_t> sources;
  const auto add = [&](const View& view) {
    (void)LowerWhole(view, [&](const Region& region) -> Result<> {
      if (region.source != Region::kFill) sources.insert(region.source);
      if (region.dequantize) sources.insert(region.dequantize->inputs()[1].source());
      return {};
    });
  };
  for (const FilePlan& file : plan.files)
    for (const Slot& slot : file.slots) add(slot.view);
  for (const Check& check : plan.checks) {
    add(check.view);
    add(check.equals);
  }
  return sources;
}

bool IsRowMajor(const Catalog& catalog, const Tensor& tensor, const Chunk& chunk,
                const ChunkLayout& layout) {
  if (layout.file != chunk.file || layout.swap_bytes || layout.conjugate || layout.negate)
    return false;
  const BoxView box = catalog.Box(tensor, chunk);
  const std::vector<int64_t> strides = RowMajorStrides(box.extent);
  for (size_t dim = 0; dim < strides.size(); ++dim)
    if (box.extent[dim] > 1 && strides[dim] != layout.strides[dim]) return false;
  return true;
}

bool Holds(const ChunkSet& chunks, uint32_t chunk) {
  return chunk < chunks.size() && chunks[chunk];
}

// The tensors that some of the chunks belong to.
std::vector<uint32_t> TensorsOf(const ChunkSet& chunks, const Catalog& catalog) {
  std::vector<uint32_t> found;
  for (uint32_t number = 0; const Tensor& tensor : catalog.tensors()) {
    uint32_t chunk = tensor.first_chunk;
    const uint32_t end = chunk + tensor.chunk_count;
    while (chunk < end && !Holds(chunks, chunk)) ++chunk;
    if (chunk < end) found.push_back(number);
    ++number;
  }
  return found;
}

}  // namespace

ChunkSet ChunksOf(const Plan& plan, const Catalog& catalog) {
  ChunkSet chunks;
  for (uint32_t source : SourcesOf(plan)) {
    const Tensor& tensor = catalog.tensors()[source];
    const size_t end = size_t{tensor.first_chunk} + tensor.chunk_count;
    if (chunks.size() < end) chunks.resize(end);
    std::fill(chunks.begin() + tensor.first_chunk, chunks.begin() + static_cast<ptrdiff_t>(end),
              true);
  }
  return chunks;
}

Result<ChunkLayouts> ChunkLayouts::Locate(const ChunkSet& chunks, const Source& source,
                                          unsigned jobs, const std::atomic<bool>* cancelled) {
  const Catalog& catalog = source.catalog();
  ChunkLayouts layouts;
  layouts.first_byte_.resize(chunks.size());
  std::mutex mutex;  // guards layouts.other_ and crcs_
  std::atomic<bool> stop = false;
  const std::vector<uint32_t> tensors = TensorsOf(chunks, catalog);
  const auto locate = [&](uint64_t step) -> Result<> {
    const Tensor& tensor = catalog.tensors()[tensors[step]];
    const auto own = catalog.chunks(tensor);
    for (uint32_t k = 0; k < own.size() && !stop; ++k) {
      const uint32_t chunk = tensor.first_chunk + k;
      if (!Holds(chunks, chunk)) continue;
      RESHARD_ASSIGN(ChunkLayout layout, source.Locate(tensor, own[k]));
      layouts.first_byte_[chunk] = layout.offset;
      const bool row_major = IsRowMajor(catalog, tensor, own[k], layout);
      if (row_major && !layout.crc) continue;
      std::lock_guard lock(mutex);
      if (layout.crc)
        layouts.crcs_.push_back({layout.file, *layout.crc, tensors[step], own[k].file});
      if (row_major) continue;
      layouts.other_.emplace(chunk, std::move(layout));
    }
    return {};
  };
  const Crew crew{.jobs = jobs, .cancelled = cancelled};
  RESHARD_TRY(crew.Run(tensors.size(), &stop, [&] { return StepFn(locate); }));
  return layouts;
}

ChunkLayout ChunkLayouts::Get(const Catalog& catalog, const Tensor& tensor, uint32_t chunk) const {
  if (const auto at = other_.find(chunk); at != other_.end()) return at->second;
  const Chunk& entry = catalog.chunks(tensor)[chunk - tensor.first_chunk];
  return {.file = entry.file,
          .offset = first_byte_[chunk],
          .strides = RowMajorStrides(catalog.Box(tensor, entry).extent)};
}

}  // namespace reshard
