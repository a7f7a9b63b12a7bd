#include "reshard/convert.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include <fmt/format.h>

#include "api/jobs.h"
#include "api/manifest.h"
#include "api/mapped_source.h"
#include "api/plan_output.h"
#include "base/try.h"
#include "checkpoints/joined_source.h"
#include "checkpoints/megatron/megatron_sink.h"
#include "checkpoints/not_a_checkpoint.h"
#include "engine/runner.h"
#include "io/file.h"
#include "plan/planner.h"
#include "reshard/local_path.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

bool HasRoot(const ConvertRequest& request) {
  return request.to == Kind::kMegatron || (request.to == Kind::kDcp && request.in_root);
}

// A Megatron root is shared by iterations: what appears at once is the iteration's directory.
fs::path OutputDirectory(const ConvertRequest& request) {
  const fs::path destination = request.destination;
  return HasRoot(request) ? destination / megatron::IterationName(request.iteration) : destination;
}

// Replacing the destination must not take the source with it, or the place we stand in.
Result<> CheckDestination(const ConvertRequest& request, const Source& source) {
  std::error_code code;
  const auto resolve = [&](const std::string& path) {
    return fs::weakly_canonical(fs::absolute(path, code), code);
  };
  const auto is_within = [](const fs::path& inner, const fs::path& outer) {
    return std::ranges::mismatch(outer, inner).in1 == outer.end();
  };
  const fs::path destination = resolve(request.destination);
  for (const std::string& precious :
       {source.root(), request.assets_from, fs::current_path(code).string()}) {
    if (precious.empty() || !is_within(resolve(precious), destination)) continue;
    return std::unexpected(Error{
        .kind = ErrorKind::kUsage,
        .file = request.destination,
        .found = fmt::format("the destination holds '{}', which is in use", precious),
        .expected = "a directory of its own",
        .help = "choose another destination"});
  }
  return {};
}

}  // namespace

struct Conversion::State {
  ConvertRequest request;
  std::unique_ptr<Source> source;
  std::string recipe_text;
  Plan plan;
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
  RESHARD_ASSIGN(auto source, OpenSource(request.source, request.from));
  RESHARD_TRY(CheckIsModel(*source, request.recipe != "auto"));
  if (!request.llm_from.empty()) {
    RESHARD_ASSIGN(auto llm, OpenSource(request.llm_from, "hf"));
    RESHARD_ASSIGN(source, JoinSources(std::move(source), std::move(llm)));
  }
  RESHARD_TRY(CheckDestination(request, *source));
  RESHARD_ASSIGN(MappedSource mapped, MapSource(request, std::move(source), reporter));
  RESHARD_ASSIGN(Plan plan, PlanOutput(request, &mapped, reporter));
  return Conversion(std::make_unique<State>(State{request, std::move(mapped.source),
                                                  mapped.flavors.text(), std::move(plan)}));
}

Result<ConvertSummary> Conversion::Run(const RunOptions& options, Reporter& reporter) {
  const auto start = std::chrono::steady_clock::now();
  const Plan& plan = state_->plan;
  const fs::path destination = OutputDirectory(state_->request);
  RESHARD_ASSIGN(StagedOutput output,
                 StagedOutput::Open(destination, plan.summary.plan_id,
                                    {.force = options.force, .resume = options.resume}));
  WarnOfReplacing(output, destination, reporter);
  for (const fs::path& other : output.LeftByOthers())
    reporter.OnWarning(fmt::format("'{}' is left of a run with other options; delete it if that "
                                   "run is not to go on",
                                   other.string()));
  RESHARD_ASSIGN(const RunReport report,
                 RunPlan(plan, *state_->source, output, reporter,
                         {.jobs = JobsFor(options.jobs, options.memory),
                          .memory = MemoryFor(options.memory),
                          .cancelled = options.cancelled}));
  RESHARD_TRY(WriteTextFile(
      output.path() / kManifestName,
      WriteManifest(state_->request, plan, state_->recipe_text, report.files)));
  RESHARD_TRY(output.Commit());
  if (HasRoot(state_->request))
    RESHARD_TRY(ReplaceTextFile(destination.parent_path() / megatron::kTrackerName,
                                megatron::TrackerText(state_->request.iteration)));

  ConvertSummary summary{.plan = plan.summary,
                         .bytes_written = plan.total_bytes(),
                         .bytes_resumed = report.bytes_resumed,
                         .files = plan.files.size(),
                         .left_behind = plan.left_behind,
                         .missing_assets = plan.missing_assets};
  for (const Overflow& overflow : report.overflows)
    summary.overflows.emplace_back(overflow.tensor, overflow.count);
  summary.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace reshard
