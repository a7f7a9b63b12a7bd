#include "engine/chunk_layouts.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <thread>

#include "base/try.h"
#include "view/lower.h"

namespace reshard {
namespace {

std::set<uint32_t> SourcesOf(const Plan& plan) {
  std::set<uint32_t> sources;
  const auto add = [&](const View& view) {
    (void)LowerWhole(view, [&](const Region& region) -> Result<> {
      if (region.source != Region::kFill) sources.insert(region.source);
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

}  // namespace

Result<ChunkLayouts> ChunkLayouts::Locate(const Plan& plan, const Source& source, unsigned jobs,
                                          const std::atomic<bool>& cancelled) {
  const Catalog& catalog = source.catalog();
  ChunkLayouts layouts;
  size_t count = 0;
  std::vector<const Tensor*> tensors;
  for (uint32_t index : SourcesOf(plan)) {
    const Tensor& tensor = catalog.tensors()[index];
    tensors.push_back(&tensor);
    count = std::max<size_t>(count, tensor.first_chunk + tensor.chunk_count);
  }
  layouts.first_byte_.resize(count);

  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::optional<Error> error;
  const auto fail = [&](Error fault) {
    std::lock_guard lock(mutex);
    if (!error) error = std::move(fault);
    next = tensors.size();
  };
  const auto work = [&] {
    for (size_t i = next++; i < tensors.size(); i = next++) {
      const Tensor& tensor = *tensors[i];
      const auto chunks = catalog.chunks(tensor);
      for (uint32_t k = 0; k < chunks.size(); ++k) {
        if (cancelled)
          return fail({.kind = ErrorKind::kInterrupted, .found = "interrupted"});
        auto layout = source.Locate(tensor, chunks[k]);
        if (!layout) return fail(std::move(layout).error());
        layouts.first_byte_[tensor.first_chunk + k] = layout->offset;
        if (IsRowMajor(catalog, tensor, chunks[k], *layout)) continue;
        std::lock_guard lock(mutex);
        layouts.other_.emplace(tensor.first_chunk + k, std::move(*layout));
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 1; i < jobs; ++i) threads.emplace_back(work);
    work();
  }
  if (error) return std::unexpected(std::move(*error));
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
