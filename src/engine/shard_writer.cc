#include "engine/shard_writer.h"

#include <algorithm>
#include <atomic>
#include <set>

#include "base/checked_math.h"
#include "base/try.h"
#include "engine/box_filler.h"
#include "engine/checksum.h"
#include "engine/file_job.h"
#include "engine/window.h"
#include "view/lower.h"

namespace reshard {
namespace {

// The elements that a nest of loops writes, as runs without a gap: calls `emit` with the first and
// the number of each.
template <typename Emit>
void EachRun(std::vector<Loop> loops, int64_t first, const Emit& emit) {
  std::ranges::sort(loops, {}, &Loop::dst_stride);
  int64_t run = 1;
  size_t outer = 0;
  for (; outer < loops.size() && loops[outer].dst_stride == run; ++outer)
    run *= loops[outer].extent;
  std::vector<int64_t> turn(loops.size(), 0);
  for (;;) {
    int64_t at = first;
    for (size_t i = outer; i < loops.size(); ++i) at += turn[i] * loops[i].dst_stride;
    emit(at, run);
    size_t next = outer;
    while (next < loops.size() && ++turn[next] == loops[next].extent) turn[next++] = 0;
    if (next == loops.size()) return;
  }
}

}  // namespace

ShardWriter::ShardWriter(const Plan& plan, const Source& source, std::filesystem::path directory)
    : plan_(plan),
      source_(source),
      index_(source.catalog()),
      directory_(std::move(directory)),
      uses_(source.catalog().tensors().size()) {
  for (size_t file = 0; file < plan.files.size(); ++file)
    for (size_t slot = 0; slot < plan.files[file].slots.size(); ++slot) {
      std::set<uint32_t> sources;
      (void)LowerWhole(plan.files[file].slots[slot].view, [&](const Region& region) -> Result<> {
        if (region.source != Region::kFill) sources.insert(region.source);
        return {};
      });
      for (uint32_t source_tensor : sources) uses_[source_tensor].push_back({file, slot});
    }
}

Result<std::vector<ShardWriter::Run>> ShardWriter::RunsOf(std::span<const uint32_t> tensors,
                                                          uint32_t file,
                                                          std::vector<bool>* chunks) const {
  const Catalog& catalog = source_.catalog();
  std::vector<Run> runs;
  for (uint32_t tensor : tensors)
    for (const Place& place : uses_[tensor]) {
      const View& view = plan_.files[place.file].slots[place.slot].view;
      RESHARD_TRY(LowerWhole(view, [&](const Region& region) -> Result<> {
        if (region.source != tensor) return {};
        return index_.Cut(region, [&](const ChunkIndex::Piece& piece) -> Result<> {
          const Tensor& from = catalog.tensors()[tensor];
          if (catalog.chunks(from)[piece.chunk - from.first_chunk].file != file) return {};
          if (chunks->size() <= piece.chunk) chunks->resize(size_t{piece.chunk} + 1);
          (*chunks)[piece.chunk] = true;
          EachRun(piece.region.loops, piece.region.dst, [&](int64_t first, int64_t count) {
            // Long runs are shared out among threads.
            const int64_t most = static_cast<int64_t>(kBlockBytes) / ItemSize(view.dtype());
            for (int64_t at = first; at < first + count; at += most)
              runs.push_back({place, at, std::min(at + most, first + count)});
          });
          return {};
        });
      }));
    }
  return runs;
}

Result<OutputFile*> ShardWriter::FileAt(size_t number) {
  std::lock_guard lock(mutex_);
  auto& file = files_[number];
  if (!file) {
    RESHARD_ASSIGN(file, OutputFile::OpenExisting(
                             FileJob::StagedName(directory_ / plan_.files[number].path)));
  }
  return file.get();
}

Result<> ShardWriter::Write(std::span<const uint32_t> tensors, uint32_t file, Reporter& reporter,
                            const Crew& crew) {
  std::vector<bool> chunks;
  RESHARD_ASSIGN(const std::vector<Run> runs, RunsOf(tensors, file, &chunks));
  RESHARD_ASSIGN(const ChunkLayouts layouts,
                 ChunkLayouts::Locate(chunks, source_, crew.jobs, crew.cancelled));
  std::atomic<uint64_t> bytes = bytes_done_;
  std::atomic<bool> stop = false;
  const auto worker = [&]() -> StepFn {
    const auto filler =
        std::make_shared<BoxFiller>(source_, index_, layouts, kFillerBytes - kWindowBytes);
    const auto buffer = std::make_shared<std::vector<std::byte>>(kWindowBytes);
    return [&, filler, buffer](uint64_t step) -> Result<> {
      const Run& run = runs[step];
      const Slot& slot = plan_.files[run.place.file].slots[run.place.slot];
      const int64_t size = ItemSize(slot.view.dtype());
      const std::vector<int64_t> strides = RowMajorStrides(slot.view.shape());
      RESHARD_ASSIGN(OutputFile* const out, FileAt(run.place.file));
      const int64_t window = static_cast<int64_t>(kWindowBytes) / size;
      for (int64_t first = run.first; first < run.last && !stop; first += window) {
        const int64_t last = std::min(first + window, run.last);
        RESHARD_TRY(CutRange(slot.view.shape(), first, last, [&](BoxView box) -> Result<> {
          int64_t at = -first;
          for (size_t dim = 0; dim < strides.size(); ++dim) at += box.start[dim] * strides[dim];
          RESHARD_TRY(filler->Fill(slot.view, box, strides, buffer->data() + at * size));
          return {};
        }));
        const auto filled = std::span(*buffer).first(static_cast<size_t>((last - first) * size));
        RESHARD_TRY(out->WriteAt(slot.offset + static_cast<uint64_t>(first * size), filled));
        bytes += filled.size();
      }
      out->StartWriteback(slot.offset + static_cast<uint64_t>(run.first * size),
                          static_cast<uint64_t>((run.last - run.first) * size));
      return {};
    };
  };
  const Crew watched{.jobs = crew.jobs, .cancelled = crew.cancelled, .watch = [&] {
                       reporter.OnProgress({.bytes_done = bytes,
                                            .bytes_total = plan_.total_bytes(),
                                            .files_total = plan_.files.size()});
                     }};
  RESHARD_TRY(watched.Run(runs.size(), &stop, worker));
  bytes_done_ = bytes;
  return {};
}

Result<> ShardWriter::Sync() {
  for (auto& [number, file] : files_) RESHARD_TRY(file->SyncAndClose());
  files_.clear();
  return {};
}

}  // namespace reshard
