#include "engine/runner.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <memory>
#include <set>

#include "base/try.h"
#include "engine/check_job.h"
#include "engine/checked_source.h"
#include "engine/chunk_layouts.h"
#include "engine/crew.h"
#include "engine/file_job.h"
#include "engine/journal.h"

namespace reshard {
namespace {

// A run's shared state, and what its threads do.
class Run {
 public:
  Run(const Plan& plan, const Source& source, StagedOutput& output, const RunnerOptions& options)
      : plan_(plan), source_(source), checked_(source), output_(output), options_(options) {
    report_.files.resize(plan.files.size());
  }

  Result<RunReport> Execute(Reporter& reporter) {
    RESHARD_ASSIGN(Journal journal,
                   Journal::Open(output_.directory(), SourceState(plan_, source_.catalog())));
    journal_ = &journal;
    auto done = RunSteps(reporter);
    if (!done) {
      // Files that are finished may hold the damage too: the rest of the tensor alone would not show
      // it, when the run goes on.
      if (journal.empty() || checked_.found_damage()) output_.Abandon();
      return std::unexpected(std::move(done).error());
    }
    RESHARD_TRY(GiveFinalNames());
    for (const auto& [tensor, count] : overflows_) report_.overflows.push_back({tensor, count});
    return std::move(report_);
  }

 private:
  Result<> RunSteps(Reporter& reporter) {
    RESHARD_TRY(KeepFinishedFiles());
    RESHARD_TRY(output_.CheckRoom(plan_.total_bytes() - report_.bytes_resumed));
    auto layouts = ChunkLayouts::Locate(ChunksOf(plan_, source_.catalog()), source_,
                                        options_.jobs, options_.cancelled);
    if (!layouts) return std::unexpected(std::move(layouts).error());
    layouts_ = &*layouts;
    checked_.Expect(layouts->TakeCrcs());
    const ChunkIndex index(source_.catalog());
    index_ = &index;
    LineUpSteps();
    const auto start = std::chrono::steady_clock::now();
    const Crew crew{.jobs = options_.jobs, .cancelled = options_.cancelled, .watch = [&] {
                      const std::chrono::duration<double> seconds =
                          std::chrono::steady_clock::now() - start;
                      reporter.OnProgress(ProgressAt(seconds.count()));
                    }};
    auto done = crew.Run(steps_, &stop_, [this] { return Worker(); });
    if (!done && done.error().kind == ErrorKind::kInterrupted && done.error().help.empty())
      done.error().help = journal_->empty()
                              ? "no file was finished yet: the same command starts afresh"
                              : "run the same command again: it keeps the files that are finished";
    return done;
  }

  bool Cancelled() const { return options_.cancelled && *options_.cancelled; }

  Result<> KeepFinishedFiles() {
    finished_.resize(plan_.files.size());
    for (size_t i = 0; i < plan_.files.size(); ++i) {
      const FilePlan& file = plan_.files[i];
      const std::string* root = journal_->Find(file.path);
      if (!root || Cancelled()) continue;
      const OutputDirectory& directory = output_.directory();
      const std::string staged = FileJob::StagedName(file.path);
      // A run that was stopped while it renamed left the final name.
      (void)directory.Rename(file.path, staged);
      auto written = directory.OpenToRead(staged);
      if (!written || (*written)->size() != file.size) continue;
      auto sum = SumFile(**written);
      if (!sum || sum->Root() != *root) continue;
      report_.files[i] = std::move(*sum);
      report_.bytes_resumed += file.size;
      finished_[i] = true;
      ++files_done_;
    }
    bytes_done_ = report_.bytes_resumed;
    return {};
  }

  // The journal stays: until the output has its name, a run that is stopped finds it finished.
  Result<> GiveFinalNames() const {
    std::set<std::string> folders;
    for (const FilePlan& file : plan_.files) {
      RESHARD_TRY(output_.directory().Rename(FileJob::StagedName(file.path), file.path));
      const std::string folder = std::filesystem::path(file.path).parent_path().string();
      for (size_t end = folder.find('/'); !folder.empty(); end = folder.find('/', end + 1)) {
        folders.insert(folder.substr(0, end));
        if (end == std::string::npos) break;
      }
    }
    for (const std::string& folder : folders) RESHARD_TRY(output_.directory().Sync(folder));
    return {};
  }

  // What is to be done, in the order in which threads take it. Checks come first, so that one that
  // fails does so early; they are made again on each run.
  void LineUpSteps() {
    for (const Check& check : plan_.checks) {
      checks_.emplace_back(check);
      first_step_.push_back(steps_);
      steps_ += checks_.back().block_count();
    }
    for (size_t i = 0; i < plan_.files.size(); ++i) {
      if (finished_[i]) continue;
      first_step_.push_back(steps_);
      file_of_job_.push_back(i);
      jobs_.push_back(std::make_unique<FileJob>(plan_.files[i], output_.directory()));
      // A file without a byte has one step all the same: making it.
      steps_ += std::max<uint64_t>(jobs_.back()->block_count(), 1);
    }
  }

  // What a thread's share of the memory leaves for the widest window.
  size_t WidestWindow() const {
    constexpr size_t kOthers = kFillerBytes;  // all but the window, and a buffer for copied files
    const uint64_t share = options_.memory / options_.jobs;
    return std::clamp<uint64_t>(share < kOthers ? 0 : share - kOthers, kWindowBytes, kBlockBytes);
  }

  // What one thread holds.
  struct Tools {
    WindowFiller filler;
    BlockHash hash{};
  };

  StepFn Worker() {
    const auto tools =
        std::make_shared<Tools>(WindowFiller(checked_, *index_, *layouts_, WidestWindow()));
    return [this, tools](uint64_t step) -> Result<> {
      const auto at = std::ranges::upper_bound(first_step_, step) - first_step_.begin() - 1;
      const auto job = static_cast<size_t>(at);
      const uint64_t block = step - first_step_[job];
      if (job < checks_.size())
        return checks_[job].CompareBlock(block, {source_, tools->filler, bytes_done_, stop_});
      return Write(job - checks_.size(), block,
                   {tools->filler, tools->hash, on_overflow_, bytes_done_, stop_});
    };
  }

  Result<> Write(size_t job, uint64_t block, const FileJob::Tools& tools) {
    if (jobs_[job]->block_count() > 0) {
      RESHARD_ASSIGN(const bool complete, jobs_[job]->WriteBlock(block, tools));
      if (!complete) return {};
    }
    RESHARD_ASSIGN(FileChecksum sum, jobs_[job]->Finish());
    const size_t file = file_of_job_[job];
    std::lock_guard lock(mutex_);
    RESHARD_TRY(journal_->Add(plan_.files[file].path, sum));
    report_.files[file] = std::move(sum);
    ++files_done_;
    return {};
  }

  Progress ProgressAt(double seconds) {
    std::lock_guard lock(mutex_);
    return {.bytes_done = bytes_done_,
            .bytes_total = plan_.total_bytes() + plan_.checked_bytes(),
            .bytes_resumed = report_.bytes_resumed,
            .files_done = files_done_,
            .files_total = plan_.files.size(),
            .seconds = seconds};
  }

  const Plan& plan_;
  const Source& source_;
  CheckedSource checked_;
  StagedOutput& output_;
  const RunnerOptions options_;
  Journal* journal_ = nullptr;
  const ChunkLayouts* layouts_ = nullptr;
  const ChunkIndex* index_ = nullptr;

  std::vector<bool> finished_;                  // by file: done by an earlier run
  std::vector<CheckJob> checks_;
  std::vector<std::unique_ptr<FileJob>> jobs_;  // the files still to be written
  std::vector<size_t> file_of_job_;
  std::vector<uint64_t> first_step_;  // of each check, then of each job
  uint64_t steps_ = 0;
  std::atomic<uint64_t> bytes_done_ = 0;
  std::atomic<bool> stop_ = false;

  const OverflowFn on_overflow_ = [this](const Slot& slot, size_t count) {
    std::lock_guard lock(mutex_);
    overflows_[slot.name] += count;
  };

  std::mutex mutex_;  // guards what follows, and the journal
  uint64_t files_done_ = 0;
  std::map<std::string, uint64_t> overflows_;
  RunReport report_;
};

}  // namespace

std::string SourceState(const Plan& plan, const Catalog& catalog) {
  std::string text;
  const auto add = [&](const SourceFile& file) {
    text += fmt::format("{} {} {} {}\n", file.size, file.mtime_ns, file.inode, file.path);
  };
  for (const SourceFile& file : catalog.files()) add(file);
  for (const FilePlan& file : plan.files) {
    if (file.copy_of.empty()) continue;
    // One that is gone shows when it is copied.
    if (const auto original = StatFile({}, file.copy_of)) add(*original);
  }
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

Result<RunReport> RunPlan(const Plan& plan, const Source& source, StagedOutput& output,
                          Reporter& reporter, const RunnerOptions& options) {
  return Run(plan, source, output, options).Execute(reporter);
}

}  // namespace reshard
