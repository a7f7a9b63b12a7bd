#include "reshard/live.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>

#include <fmt/format.h>

#include "api/jobs.h"
#include "api/manifest.h"
#include "api/mapped_source.h"
#include "api/plan_output.h"
#include "base/endian.h"
#include "base/try.h"
#include "checkpoints/live/live_source.h"
#include "engine/file_job.h"
#include "engine/shard_writer.h"
#include "engine/window.h"
#include "io/staged_output.h"
#include "plan/planner.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

std::unexpected<Error> BadSums() {
  return std::unexpected(Error{.kind = ErrorKind::kInternal,
                               .found = "the checksums of the processes do not fit the plan",
                               .expected = "what Sum gave in each of them, in their order"});
}

// What the first process writes of a file: its literals, or all of one that others do not write.
Result<> WriteOwn(const FilePlan& file, const fs::path& directory) {
  const fs::path staged = FileJob::StagedName(directory / file.path);
  if (!file.copy_of.empty()) {
    RESHARD_ASSIGN(const auto original, InputFile::Open(file.copy_of));
    RESHARD_ASSIGN(const auto out, OutputFile::Create(staged));
    std::vector<std::byte> buffer(kWindowBytes);
    for (uint64_t at = 0; at < file.size; at += buffer.size()) {
      const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), file.size - at));
      RESHARD_TRY(original->ReadAt(at, part));
      RESHARD_TRY(out->WriteAt(at, part));
    }
    return out->SyncAndClose();
  }
  RESHARD_ASSIGN(const auto out, OutputFile::Create(staged));
  RESHARD_TRY(out->Resize(file.size));
  for (const Literal& literal : file.literals)
    RESHARD_TRY(out->WriteAt(literal.offset, std::as_bytes(std::span(literal.bytes))));
  return out->SyncAndClose();
}

}  // namespace

struct SharedSave::State {
  ConvertRequest request;
  std::unique_ptr<LiveSource> source;
  std::string recipe_text;
  Plan plan;
  fs::path staging;
  std::optional<StagedOutput> output{};  // in the first process, from Create on
  std::optional<ShardWriter> writer{};
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

SharedSave::SharedSave(std::unique_ptr<State> state) : state_(std::move(state)) {}
SharedSave::SharedSave(SharedSave&&) noexcept = default;
SharedSave& SharedSave::operator=(SharedSave&&) noexcept = default;
SharedSave::~SharedSave() = default;

Result<SharedSave> SharedSave::Prepare(const ConvertRequest& request,
                                       const std::vector<LiveTensor>& tensors,
                                       Reporter& reporter) {
  if (request.to != Kind::kHf || request.weights != Weights::kSafetensors)
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .found = TargetText(request),
                                 .expected = "hf with safetensors: what processes can write together"});
  RESHARD_ASSIGN(auto live, LiveSource::Make(tensors));
  LiveSource* const source = live.get();
  RESHARD_ASSIGN(MappedSource mapped, MapSource(request, std::move(live), reporter));
  RESHARD_ASSIGN(Plan plan, PlanOutput(request, &mapped, reporter));
  if (!plan.checks.empty())
    return std::unexpected(
        Error{.kind = ErrorKind::kMapping,
              .tensor = plan.checks[0].name,
              .found = "it is left out, and would have to be compared over several processes",
              .expected = "tensors that are all written",
              .help = "leave it out of the state dict that is saved"});
  (void)mapped.source.release();
  std::unique_ptr<State> state(new State{.request = request,
                                         .source = std::unique_ptr<LiveSource>(source),
                                         .recipe_text = mapped.flavors.text(),
                                         .plan = std::move(plan)});
  state->staging = StagedOutput::PathFor(request.destination, state->plan.summary.plan_id);
  return SharedSave(std::move(state));
}

const PlanSummary& SharedSave::summary() const { return state_->plan.summary; }
std::string SharedSave::staging() const { return state_->staging.string(); }

Result<> SharedSave::Create(bool force, Reporter& reporter) {
  RESHARD_ASSIGN(StagedOutput output,
                 StagedOutput::Open(state_->request.destination, state_->plan.summary.plan_id,
                                    {.force = force, .resume = false}));
  if (output.replaces() && !fs::exists(fs::path(state_->request.destination) / kManifestName))
    reporter.OnWarning(fmt::format("'{}' is not an output of reshard; all that it holds goes when "
                                   "the new output is complete",
                                   state_->request.destination));
  RESHARD_ASSIGN(const uint64_t available, output.FreeBytes());
  if (state_->plan.total_bytes() > available) {
    output.Abandon();
    return std::unexpected(
        Error{.kind = ErrorKind::kDestination,
              .file = output.path().string(),
              .found = fmt::format("{} bytes are free on this file system", available),
              .expected = fmt::format("{} bytes for the output", state_->plan.total_bytes()),
              .help = "free some space, or choose a destination on another file system"});
  }
  for (const FilePlan& file : state_->plan.files) {
    auto written = WriteOwn(file, output.path());
    if (!written) {
      output.Abandon();
      return written;
    }
  }
  state_->output.emplace(std::move(output));
  return {};
}

Result<> SharedSave::Write(uint32_t rank, const std::vector<LiveBytes>& shards, unsigned jobs,
                           const std::atomic<bool>* cancelled, Reporter& reporter) {
  LiveSource& source = *state_->source;
  if (!state_->writer) state_->writer.emplace(state_->plan, source, state_->staging);
  RESHARD_TRY(source.Lend(shards));
  std::vector<uint32_t> tensors;
  for (const LiveBytes& shard : shards)
    tensors.push_back(static_cast<uint32_t>(source.catalog().Find(shard.tensor) -
                                            source.catalog().tensors().data()));
  std::ranges::sort(tensors);
  tensors.erase(std::ranges::unique(tensors).begin(), tensors.end());
  auto written = state_->writer->Write(tensors, rank, reporter,
                                       {.jobs = JobsFor(jobs, 0), .cancelled = cancelled});
  source.TakeBack();
  return written;
}

Result<> SharedSave::Sync() { return state_->writer ? state_->writer->Sync() : Result<>(); }

Result<std::string> SharedSave::Sum(size_t part, size_t parts) const {
  std::string sums;
  for (size_t i = part; i < state_->plan.files.size(); i += parts) {
    const FilePlan& file = state_->plan.files[i];
    RESHARD_ASSIGN(const auto written,
                   InputFile::Open(FileJob::StagedName(state_->staging / file.path)));
    RESHARD_ASSIGN(const FileChecksum sum, SumFile(*written));
    for (uint64_t block : sum.blocks) AppendLittle(block, &sums);
  }
  return sums;
}

Result<ConvertSummary> SharedSave::Commit(const std::vector<std::string>& sums) {
  const Plan& plan = state_->plan;
  StagedOutput& output = *state_->output;
  std::vector<FileChecksum> files;
  std::vector<size_t> used(sums.size());
  for (size_t i = 0; i < plan.files.size(); ++i) {
    FileChecksum& sum = files.emplace_back(FileChecksum{.size = plan.files[i].size});
    if (sums.empty()) return BadSums();
    const std::string& of_part = sums[i % sums.size()];
    for (uint64_t block = 0; block < BlockCount(sum.size); ++block) {
      size_t& at = used[i % sums.size()];
      if (of_part.size() < at + 8) return BadSums();
      sum.blocks.push_back(LoadLittle<uint64_t>(&of_part[at]));
      at += 8;
    }
    const fs::path path = output.path() / plan.files[i].path;
    std::error_code code;
    fs::rename(FileJob::StagedName(path), path, code);
    if (code)
      return std::unexpected(
          SystemError(ErrorKind::kDestination, path.string(), "rename", code.value()));
  }
  RESHARD_TRY(WriteTextFile(output.path() / kManifestName,
                            WriteManifest(state_->request, plan, state_->recipe_text, files)));
  RESHARD_TRY(output.Commit());
  ConvertSummary summary{.plan = plan.summary,
                         .bytes_written = plan.total_bytes(),
                         .files = plan.files.size(),
                         .missing_assets = plan.missing_assets};
  summary.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - state_->start).count();
  return summary;
}

void SharedSave::Abandon() {
  if (state_->output) state_->output->Abandon();
}

}  // namespace reshard
