#include "engine/shard_writer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/checked_math.h"
#include "base/try.h"
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

ShardWriter::ShardWriter(const Plan& plan, const Source& source, uint32_t file,
                         std::filesystem::path directory)
    : plan_(plan),
      source_(source),
      index_(source.catalog()),
      file_(file),
      directory_(std::move(directory)) {}

Result<std::unique_ptr<ShardWriter>> ShardWriter::Make(const Plan& plan, const Source& source,
                                                       uint32_t file,
                                                       std::filesystem::path directory) {
  std::unique_ptr<ShardWriter> writer(
      new ShardWriter(plan, source, file, std::move(directory)));
  writer->FindChunks();
  RESHARD_TRY(writer->FindPieces());
  return writer;
}

void ShardWriter::FindChunks() {
  const Catalog& catalog = source_.catalog();
  for (const Tensor& tensor : catalog.tensors()) {
    own_.resize(std::max(own_.size(), size_t{tensor.first_chunk} + tensor.chunk_count));
    for (size_t i = 0; const Chunk& chunk : catalog.chunks(tensor))
      own_[tensor.first_chunk + i++] = chunk.file == file_;
  }
}

Result<> ShardWriter::FindPieces() {
  for (size_t file = 0; file < plan_.files.size(); ++file)
    for (size_t slot = 0; slot < plan_.files[file].slots.size(); ++slot) {
      const Place place{file, slot};
      const Slot& to = SlotAt(place);
      RESHARD_TRY(LowerWhole(to.view, [&](const Region& region) -> Result<> {
        if (region.source == Region::kFill) {
          if (region.fill == 0) return {};  // as the file is made
          return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                       .tensor = to.name,
                                       .found = fmt::format("a part of it is {}", region.fill),
                                       .expected = "zeros, or parts of tensors"});
        }
        return index_.Cut(region, [&](const ChunkIndex::Piece& piece) -> Result<> {
          if (!own_[piece.chunk]) return {};
          pieces_[piece.chunk].push_back({place, piece.region.dst, piece.region.loops});
          bytes_total_ +=
              static_cast<uint64_t>(piece.region.numel() * ItemSize(to.view.dtype()));
          return {};
        });
      }));
    }
  return {};
}

std::vector<ShardWriter::Run> ShardWriter::RunsOf(std::span<const uint32_t> chunks) const {
  std::vector<Run> runs;
  for (uint32_t chunk : chunks) {
    const auto pieces = pieces_.find(chunk);
    if (pieces == pieces_.end()) continue;  // dropped by the plan
    for (const Piece& piece : pieces->second)
      EachRun(piece.loops, piece.first, [&](int64_t first, int64_t count) {
        // Long runs are shared out among threads.
        const int64_t most =
            static_cast<int64_t>(kBlockBytes) / ItemSize(SlotAt(piece.place).view.dtype());
        for (int64_t at = first; at < first + count; at += most)
          runs.push_back({piece.place, at, std::min(at + most, first + count)});
      });
  }
  return runs;
}

Result<OutputFile*> ShardWriter::FileAt(size_t number) {
  std::lock_guard lock(mutex_);
  auto& file = files_[number];
  if (!file) {
    RESHARD_ASSIGN(file, OutputFile::OpenExisting(
                             FileJob::StagedName((directory_ / plan_.files[number].path).string())));
  }
  return file.get();
}

Result<> ShardWriter::WriteRun(const Run& run, const std::atomic<bool>& stop, BoxFiller* filler,
                               std::vector<std::byte>* buffer) {
  const Slot& slot = SlotAt(run.place);
  const int64_t size = ItemSize(slot.view.dtype());
  const std::vector<int64_t> strides = RowMajorStrides(slot.view.shape());
  RESHARD_ASSIGN(OutputFile* const out, FileAt(run.place.file));
  const int64_t window = static_cast<int64_t>(kWindowBytes) / size;
  size_t overflows = 0;
  for (int64_t first = run.first; first < run.last && !stop; first += window) {
    const int64_t last = std::min(first + window, run.last);
    RESHARD_TRY(CutRange(slot.view.shape(), first, last, [&](BoxView box) -> Result<> {
      int64_t at = -first;
      for (size_t dim = 0; dim < strides.size(); ++dim) at += box.start[dim] * strides[dim];
      RESHARD_ASSIGN(const size_t more,
                     filler->Fill(slot.view, box, strides, buffer->data() + at * size));
      overflows += more;
      return {};
    }));
    const auto filled = std::span(*buffer).first(static_cast<size_t>((last - first) * size));
    RESHARD_TRY(out->WriteAt(slot.offset + static_cast<uint64_t>(first * size), filled));
    bytes_done_ += filled.size();
  }
  if (run.last - run.first >= window)
    out->StartWriteback(slot.offset + static_cast<uint64_t>(run.first * size),
                        static_cast<uint64_t>((run.last - run.first) * size));
  if (overflows > 0) {
    std::lock_guard lock(mutex_);
    overflows_[slot.name] += overflows;
  }
  return {};
}

Result<> ShardWriter::Write(std::span<const uint32_t> chunks, Reporter& reporter,
                            const Crew& crew) {
  ChunkSet read(own_.size());
  for (uint32_t chunk : chunks) {
    if (chunk >= own_.size() || !own_[chunk])
      return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                   .found = fmt::format("a shard that is not process {}'s", file_),
                                   .expected = "shards of its own"});
    read[chunk] = true;
  }
  const std::vector<Run> runs = RunsOf(chunks);
  RESHARD_ASSIGN(const ChunkLayouts layouts,
                 ChunkLayouts::Locate(read, source_, crew.jobs, crew.cancelled));
  std::atomic<bool> stop = false;
  const auto worker = [&]() -> StepFn {
    const auto filler =
        std::make_shared<BoxFiller>(source_, index_, layouts, kFillerBytes - kWindowBytes);
    const auto buffer = std::make_shared<std::vector<std::byte>>(kWindowBytes);
    return [&, filler, buffer](uint64_t step) {
      return WriteRun(runs[step], stop, filler.get(), buffer.get());
    };
  };
  const Crew watched{.jobs = crew.jobs, .cancelled = crew.cancelled, .watch = [&] {
                       reporter.OnProgress({.bytes_done = bytes_done_,
                                            .bytes_total = bytes_total_,
                                            .files_total = plan_.files.size()});
                     }};
  RESHARD_TRY(watched.Run(runs.size(), &stop, worker));
  for (uint32_t chunk : chunks) pieces_.erase(chunk);
  return {};
}

Result<> ShardWriter::Sync() {
  if (!pieces_.empty())
    return std::unexpected(
        Error{.kind = ErrorKind::kUsage,
              .tensor = SlotAt(pieces_.begin()->second[0].place).name,
              .found = fmt::format("{} of the shards of process {} have not been written",
                                   pieces_.size(), file_),
              .expected = "all that were declared"});
  for (auto& [number, file] : files_) RESHARD_TRY(file->SyncAndClose());
  files_.clear();
  return {};
}

}  // namespace reshard
