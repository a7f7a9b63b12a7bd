#include "engine/box_reads.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>

#include "base/checked_math.h"
#include "base/try.h"
#include "engine/box_filler.h"
#include "engine/check_job.h"
#include "engine/checked_source.h"
#include "view/lower.h"

namespace reshard {
namespace {

// What one process leaves out, another one reads: here bytes count, which may come over a network.
constexpr GapRule kGaps = {.factor = 1, .bytes = 512};

// What is read is counted where it is read.
class CountedSource final : public Source {
 public:
  explicit CountedSource(const Source& of) : of_(of) {}
  uint64_t bytes() const { return bytes_; }

  const Catalog& catalog() const override { return of_.catalog(); }
  std::string_view kind() const override { return of_.kind(); }
  std::string_view evidence() const override { return of_.evidence(); }
  const std::string& root() const override { return of_.root(); }
  const std::vector<std::string>& notes() const override { return of_.notes(); }
  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const override {
    return of_.Locate(tensor, chunk);
  }
  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override {
    bytes_ += out.size();
    return of_.ReadAt(file, offset, out);
  }

 private:
  const Source& of_;
  mutable std::atomic<uint64_t> bytes_ = 0;
};

// Whole rows, about as much as a block of a file.
int64_t ElementsPerStep(const ViewRead& read) {
  const int64_t most = static_cast<int64_t>(kBlockBytes) / ItemSize(read.view.dtype());
  int64_t row = 1;
  for (size_t dim = 1; dim < read.extent.size(); ++dim) row *= read.extent[dim];
  return row > 0 && row <= most ? most / row * row : most;
}

// Memory that nothing has touched comes page by page, each with a fault in the middle of a read;
// asked for at once, it takes a quarter off the whole. Where that is refused (before Linux 5.14)
// nothing changes. Huge pages are not asked for: finding them costs more than the read.
void Populate(std::byte* first, uint64_t size) {
  constexpr uintptr_t kPage = 4096;
  constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, which older headers lack
  const auto begin = reinterpret_cast<uintptr_t>(first);
  const uintptr_t from = (begin + kPage - 1) / kPage * kPage;
  const uintptr_t to = (begin + size) / kPage * kPage;
  if (from < to) (void)madvise(reinterpret_cast<void*>(from), to - from, kPopulateWrite);
}

// A run's shared state, and what its threads do.
class Run {
 public:
  Run(std::span<const ViewRead> reads, std::span<const Check* const> checks, const Source& source)
      : reads_(reads), source_(source), index_(source.catalog()) {
    for (const Check* check : checks) {
      checks_.emplace_back(*check);
      bytes_total_ += check->view.byte_size();
    }
    for (const CheckJob& check : checks_) AddSteps(check.block_count());
    for (const ViewRead& read : reads_) {
      const int64_t each = ElementsPerStep(read);
      AddSteps(static_cast<uint64_t>((CheckedNumel(read.extent).value_or(0) + each - 1) / each));
      bytes_total_ += read.byte_size();
    }
    report_.overflows.resize(reads.size());
  }

  Result<ViewReadReport> Execute(std::span<const Check* const> checks, Reporter& reporter,
                                 const Crew& crew) {
    RESHARD_ASSIGN(const ChunkSet chunks, Chunks(checks));
    RESHARD_ASSIGN(layouts_,
                   ChunkLayouts::Locate(chunks, source_, crew.jobs, crew.cancelled));
    checked_.Expect(layouts_.TakeCrcs());
    const auto start = std::chrono::steady_clock::now();
    const Crew watched{.jobs = crew.jobs, .cancelled = crew.cancelled, .watch = [&] {
                         const std::chrono::duration<double> seconds =
                             std::chrono::steady_clock::now() - start;
                         reporter.OnProgress({.bytes_done = bytes_done_,
                                              .bytes_total = bytes_total_,
                                              .seconds = seconds.count()});
                       }};
    RESHARD_TRY(watched.Run(steps_, &stop_, [this] { return Worker(); }));
    report_.bytes_read = source_.bytes();
    for (const ViewRead& read : reads_) report_.bytes_filled += read.byte_size();
    return std::move(report_);
  }

 private:
  void AddSteps(uint64_t count) {
    first_step_.push_back(steps_);
    steps_ += count;
  }

  // The chunks that are read; notes their files.
  Result<ChunkSet> Chunks(std::span<const Check* const> checks) {
    ChunkSet chunks;
    const Catalog& catalog = source_.catalog();
    const auto note = [&](const Region& region) {
      const Tensor& tensor = catalog.tensors()[region.source];
      return index_.Cut(region, [&](const ChunkIndex::Piece& piece) -> Result<> {
        if (chunks.size() <= piece.chunk) chunks.resize(size_t{piece.chunk} + 1);
        if (chunks[piece.chunk]) return {};
        chunks[piece.chunk] = true;
        report_.files.insert(catalog.chunks(tensor)[piece.chunk - tensor.first_chunk].file);
        return {};
      });
    };
    const auto add = [&](const Region& region) -> Result<> {
      if (region.source == Region::kFill) return {};
      RESHARD_TRY(note(region));
      return region.dequantize ? note(ScalesOf(region)) : Result<>{};
    };
    for (const Check* check : checks) {
      RESHARD_TRY(LowerWhole(check->view, add));
      RESHARD_TRY(LowerWhole(check->equals, add));
    }
    for (const ViewRead& read : reads_)
      RESHARD_TRY(Lower(read.view, read.start, read.extent, RowMajorStrides(read.extent), add));
    return chunks;
  }

  // What one thread holds.
  struct Tools {
    BoxFiller boxes;
    std::optional<WindowFiller> windows{};  // for checks
  };

  StepFn Worker() {
    const auto tools =
        std::make_shared<Tools>(BoxFiller(checked_, index_, layouts_, kFillerBytes - kWindowBytes, kGaps));
    if (!checks_.empty()) tools->windows.emplace(checked_, index_, layouts_);
    return [this, tools](uint64_t step) -> Result<> {
      const auto at = std::ranges::upper_bound(first_step_, step) - first_step_.begin() - 1;
      const auto job = static_cast<size_t>(at);
      const uint64_t part = step - first_step_[job];
      if (job < checks_.size())
        return checks_[job].CompareBlock(part, {source_, *tools->windows, bytes_done_, stop_});
      return Fill(job - checks_.size(), static_cast<int64_t>(part), &tools->boxes);
    };
  }

  Result<> Fill(size_t number, int64_t part, BoxFiller* filler) {
    const ViewRead& read = reads_[number];
    const int64_t each = ElementsPerStep(read);
    const int64_t numel = CheckedNumel(read.extent).value_or(0);
    const int64_t size = ItemSize(read.view.dtype());
    const bool rows_together = read.strides == RowMajorStrides(read.extent);
    return CutRange(read.extent, part * each, std::min(numel, (part + 1) * each),
                    [&](BoxView box) -> Result<> {
                      Shape start = read.start;
                      int64_t at = 0;
                      for (size_t dim = 0; dim < start.size(); ++dim) {
                        start[dim] += box.start[dim];
                        at += box.start[dim] * read.strides[dim];
                      }
                      std::byte* const to = read.to + at * size;
                      const auto bytes = static_cast<uint64_t>(*CheckedNumel(box.extent) * size);
                      if (rows_together) Populate(to, bytes);
                      RESHARD_ASSIGN(
                          const size_t overflows,
                          filler->Fill(read.view, {start, box.extent}, read.strides, to));
                      bytes_done_ += bytes;
                      if (overflows == 0) return {};
                      std::lock_guard lock(mutex_);
                      report_.overflows[number] += overflows;
                      return {};
                    });
  }

  const std::span<const ViewRead> reads_;
  const CountedSource source_;
  CheckedSource checked_{source_};
  const ChunkIndex index_;
  ChunkLayouts layouts_;
  std::vector<CheckJob> checks_;
  std::vector<uint64_t> first_step_;  // of each check, then of each read
  uint64_t steps_ = 0;
  uint64_t bytes_total_ = 0;
  std::atomic<uint64_t> bytes_done_ = 0;
  std::atomic<bool> stop_ = false;

  std::mutex mutex_;  // guards what follows
  ViewReadReport report_;
};

}  // namespace

uint64_t ViewRead::byte_size() const {
  return static_cast<uint64_t>(CheckedNumel(extent).value_or(0) * ItemSize(view.dtype()));
}

Result<ViewReadReport> RunReads(std::span<const ViewRead> reads,
                                std::span<const Check* const> checks, const Source& source,
                                Reporter& reporter, const Crew& crew) {
  return Run(reads, checks, source).Execute(checks, reporter, crew);
}

}  // namespace reshard
