#include "reshard/convert.h"

#include <chrono>
#include <filesystem>

#include <fmt/format.h>

#include "api/earlier_output.h"
#include "api/inputs.h"
#include "api/jobs.h"
#include "api/language_model.h"
#include "api/manifest.h"
#include "api/mapped_source.h"
#include "api/one_rank.h"
#include "api/plan_output.h"
#include "base/try.h"
#include "checkpoints/megatron/megatron_sink.h"
#include "checkpoints/not_a_checkpoint.h"
#include "engine/runner.h"
#include "io/file.h"
#include "plan/planner.h"
#include "reshard/local_path.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxTrackerBytes = 4096;

bool HasRoot(const ConvertRequest& request) {
  return request.to == Kind::kMegatron || (request.to == Kind::kDcp && request.in_root);
}

// A Megatron root is shared by iterations: what appears at once is the iteration's directory.
fs::path OutputPath(const ConvertRequest& request) {
  const fs::path destination = request.destination;
  return HasRoot(request) ? destination / megatron::IterationName(request.iteration) : destination;
}

fs::path TrackerOf(const fs::path& output) { return output.parent_path() / megatron::kTrackerName; }

Result<> WriteTracker(const ConvertRequest& request, const fs::path& output) {
  auto written = ReplaceTextFile(TrackerOf(output), megatron::TrackerText(request.iteration));
  if (!written)
    written.error().help =
        fmt::format("'{}' is complete; run the same command again: it only writes this file, which "
                    "names it",
                    output.string());
  return written;
}

// Whether the run that wrote an iteration was stopped before it wrote the tracker: there is none,
// or one of before that.
bool LacksTracker(const fs::path& output) {
  const auto tracker = LastChange(TrackerOf(output));
  const auto manifest = LastChange(output / kManifestName);
  return !tracker || (manifest && *tracker < *manifest);
}

void WarnOfLeftovers(const StagedOutput& output, Reporter& reporter) {
  const StagedOutput::Leftovers left = output.LeftByOthers();
  for (const fs::path& staged : left.staged)
    reporter.OnWarning(fmt::format("'{}' is left of a run with other options; delete it if that "
                                   "run is not to go on",
                                   staged.string()));
  for (const fs::path& replaced : left.replaced)
    reporter.OnWarning(
        fmt::format("'{}' is what an earlier run with --force replaced and could not delete; "
                    "delete it",
                    replaced.string()));
}

Error ExistsComplete(const ConvertRequest& request) {
  Error error{.kind = ErrorKind::kDestination,
               .file = OutputPath(request).string(),
               .found = "the destination exists, and is a complete output of this plan",
               .expected = "a name that is free, or an empty directory",
               .help = "nothing is left to do, unless the source has changed since it was written: "
                       "then choose another name, or replace it with --force"};
  const fs::path tracker = TrackerOf(OutputPath(request));
  const std::string wanted = megatron::TrackerText(request.iteration);
  if (HasRoot(request) && ReadTextFile(tracker, kMaxTrackerBytes).value_or("") != wanted)
    error.help = fmt::format("to have it loaded in place of the iteration that '{}' names, write "
                             "'{}' into that file; to write it again, use --force",
                             tracker.string(), wanted);
  return error;
}

}  // namespace

struct Conversion::State {
  ConvertRequest request;
  std::unique_ptr<Source> source;
  std::string recipe_text;
  Plan plan;
  std::vector<SourceFile> inputs;  // beside the source's own files

  fs::path output() const { return OutputPath(request); }
  ConvertSummary Summary() const;
  Result<bool> EndEarlierRun(Reporter& reporter) const;
  bool IsOfThisSource(const fs::path& output) const;
  Result<RunReport> WriteFiles(StagedOutput& output, const RunOptions& options,
                               Reporter& reporter) const;
  Result<> End(StagedOutput& output, Reporter& reporter) const;
};

Conversion::Conversion(std::unique_ptr<State> state) : state_(std::move(state)) {}
Conversion::Conversion(Conversion&&) noexcept = default;
Conversion& Conversion::operator=(Conversion&&) noexcept = default;
Conversion::~Conversion() = default;

const PlanSummary& Conversion::summary() const { return state_->plan.summary; }
PlanDescription Conversion::Describe(Detail detail) const {
  return reshard::Describe(state_->plan, state_->source->catalog(), detail);
}

Result<Conversion> Conversion::Prepare(const ConvertRequest& request, Reporter& reporter) {
  RESHARD_TRY(CheckIsLocal(request.destination, PathUse::kWrite));
  std::vector<SourceFile> inputs = FindInputs(request);
  RESHARD_ASSIGN(auto source, OpenSource(request.source, request.from));
  RESHARD_TRY(CheckIsModel(*source, request.recipe != "auto"));
  RESHARD_TRY(CheckIsNotOneRank(request, *source));
  std::vector<Dropped> replaced;
  if (!request.llm_from.empty()) {
    RESHARD_ASSIGN(source, TakeLanguageModel(request, std::move(source), &replaced));
  }
  AddConfigs(request, *source, &inputs);
  RESHARD_TRY(CheckNotInUse(request, *source, inputs));
  RESHARD_ASSIGN(MappedSource mapped, MapSource(request, std::move(source), reporter, replaced));
  RESHARD_ASSIGN(Plan plan, PlanOutput(request, &mapped, reporter));
  SettleInputs(plan, mapped.assets, &inputs);
  RESHARD_TRY(CheckNotInUse(request, *mapped.source, inputs));
  return Conversion(std::make_unique<State>(State{request, std::move(mapped.source),
                                                  mapped.flavors.text(), std::move(plan),
                                                  std::move(inputs)}));
}

ConvertSummary Conversion::State::Summary() const {
  return {.plan = plan.summary,
          .bytes_written = plan.total_bytes(),
          .files = plan.files.size(),
          .left_behind = plan.left_behind,
          .missing_assets = plan.missing_assets};
}

// Whether nothing that is read has been touched since `output` was written: then it was made of it.
bool Conversion::State::IsOfThisSource(const fs::path& output) const {
  return IsNewerThan(source->root(), source->catalog().files(), output) &&
         IsNewerThan({}, inputs, output);
}

// Ends what the same command has written whole and not ended: true where there was that.
Result<bool> Conversion::State::EndEarlierRun(Reporter& reporter) const {
  RESHARD_ASSIGN(auto committed, StagedOutput::FindCommitted(output(), plan.summary.plan_id));
  if (committed) {
    const Journal journal =
        Journal::Read(committed->committed_journal(), SourceState(plan, source->catalog()));
    if (IsOutputOf(plan, committed->path()) && HasSumsOf(journal, plan, committed->path())) {
      RESHARD_TRY(SyncDirectory(committed->path().parent_path()));
      RESHARD_TRY(End(*committed, reporter));
      return true;
    }
  }
  // Where the journal is gone, the times of the files must do.
  if (!HasRoot(request) || !LacksTracker(output()) || !IsOutputOf(plan, output()) ||
      !IsOfThisSource(output()))
    return false;
  RESHARD_TRY(WriteTracker(request, output()));
  return true;
}

// All of the output, under final names in the staging directory.
Result<RunReport> Conversion::State::WriteFiles(StagedOutput& output, const RunOptions& options,
                                                Reporter& reporter) const {
  RESHARD_TRY(output.CheckNothingElse(FilesOf(plan)));
  RESHARD_ASSIGN(RunReport report, RunPlan(plan, *source, output, reporter,
                                           {.jobs = JobsFor(options.jobs, options.memory),
                                            .memory = MemoryFor(options.memory),
                                            .cancelled = options.cancelled}));
  if (auto unchanged = CheckUnchanged(*source, inputs); !unchanged) {
    output.Abandon();
    return std::unexpected(std::move(unchanged).error());
  }
  RESHARD_TRY(output.directory().WriteText(
      std::string(kManifestName), WriteManifest(request, plan, recipe_text, report.files)));
  return report;
}

// What is left to do when the output has its name.
Result<> Conversion::State::End(StagedOutput& output, Reporter& reporter) const {
  if (HasRoot(request)) RESHARD_TRY(WriteTracker(request, output.path()));
  for (const fs::path& left : output.Finish())
    reporter.OnWarning(fmt::format("'{}' is no longer needed and could not be deleted; delete it",
                                   left.string()));
  return {};
}

Result<ConvertSummary> Conversion::Run(const RunOptions& options, Reporter& reporter) {
  const auto start = std::chrono::steady_clock::now();
  const State& state = *state_;
  const Plan& plan = state.plan;
  ConvertSummary summary = state.Summary();
  if (options.resume) {
    RESHARD_ASSIGN(summary.was_complete, state.EndEarlierRun(reporter));
  }
  if (summary.was_complete) {
    summary.bytes_resumed = summary.bytes_written;
    return summary;
  }
  if (!options.force && IsOutputOf(plan, state.output()))
    return std::unexpected(ExistsComplete(state.request));
  RESHARD_ASSIGN(StagedOutput output,
                 StagedOutput::Open(state.output(), plan.summary.plan_id,
                                    {.force = options.force, .resume = options.resume}));
  WarnOfReplacing(output, state.output(), reporter);
  WarnOfLeftovers(output, reporter);
  RESHARD_ASSIGN(const RunReport report, state.WriteFiles(output, options, reporter));
  RESHARD_TRY(output.Commit(FilesOf(plan)));
  RESHARD_TRY(state.End(output, reporter));

  summary.bytes_resumed = report.bytes_resumed;
  for (const Overflow& overflow : report.overflows)
    summary.overflows.emplace_back(overflow.tensor, overflow.count);
  summary.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace reshard
