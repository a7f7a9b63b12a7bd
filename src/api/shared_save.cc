#include "reshard/live.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>

#include <fmt/format.h>

#include "api/earlier_output.h"
#include "api/inputs.h"
#include "api/jobs.h"
#include "api/manifest.h"
#include "api/mapped_source.h"
#include "api/plan_output.h"
#include "base/endian.h"
#include "base/try.h"
#include "checkpoints/live/live_source.h"
#include "engine/checksum.h"
#include "engine/crew.h"
#include "engine/file_job.h"
#include "engine/shard_writer.h"
#include "engine/window.h"
#include "io/staged_output.h"
#include "plan/planner.h"
#include "reshard/local_path.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

std::unexpected<Error> BadSums() {
  return std::unexpected(Error{.kind = ErrorKind::kInternal,
                               .found = "the checksums of the processes do not fit the plan",
                               .expected = "what Sum gave in each of them, in their order"});
}

// What the first process writes of a file: its literals, or all of one that others do not write.
Result<> WriteOwn(const FilePlan& file, const OutputDirectory& directory) {
  RESHARD_ASSIGN(const auto out, directory.Create(FileJob::StagedName(file.path)));
  if (!file.copy_of.empty()) {
    RESHARD_ASSIGN(const auto original, InputFile::Open(file.copy_of));
    std::vector<std::byte> buffer(kWindowBytes);
    for (uint64_t at = 0; at < file.size; at += buffer.size()) {
      const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), file.size - at));
      RESHARD_TRY(original->ReadAt(at, part));
      RESHARD_TRY(out->WriteAt(at, part));
    }
    return out->SyncAndClose();
  }
  RESHARD_TRY(out->Resize(file.size));
  for (const Literal& literal : file.literals)
    RESHARD_TRY(out->WriteAt(literal.offset, std::as_bytes(std::span(literal.bytes))));
  return out->SyncAndClose();
}

// The checksums of the blocks [begin, end) of a file that has been written.
Result<std::vector<uint64_t>> SumBlocks(const fs::path& path, uint64_t begin, uint64_t end,
                                        const Crew& crew) {
  RESHARD_ASSIGN(const auto written, InputFile::Open(FileJob::StagedName(path.string())));
  std::vector<uint64_t> sums(end - begin);
  std::atomic<bool> stop = false;
  const auto worker = [&]() -> StepFn {
    return [&](uint64_t step) -> Result<> {
      RESHARD_ASSIGN(sums[step], SumBlock(*written, begin + step));
      return {};
    };
  };
  RESHARD_TRY(crew.Run(sums.size(), &stop, worker));
  return sums;
}

}  // namespace

uint64_t DigestOf(std::span<const std::byte> bytes) {
  BlockHash hash;
  hash.Update(bytes);
  return hash.Digest();
}

struct SharedSave::State {
  ConvertRequest request;
  std::unique_ptr<LiveSource> source;
  std::string recipe_text;
  Plan plan;
  std::vector<SourceFile> inputs;  // the files that the plan was made from
  fs::path staging{};
  std::unique_ptr<ShardWriter> writer{};
  std::optional<StagedOutput> output{};  // in the first process, from Create on
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
};

SharedSave::SharedSave(std::unique_ptr<State> state) : state_(std::move(state)) {}
SharedSave::SharedSave(SharedSave&&) noexcept = default;
SharedSave& SharedSave::operator=(SharedSave&&) noexcept = default;
SharedSave::~SharedSave() = default;

Result<SharedSave> SharedSave::Prepare(const ConvertRequest& request,
                                       const std::vector<LiveTensor>& tensors, uint32_t rank,
                                       Reporter& reporter) {
  if (request.to != Kind::kHf || request.weights != Weights::kSafetensors)
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .found = TargetText(request),
                                 .expected = "hf with safetensors: what processes can write together"});
  RESHARD_TRY(CheckIsLocal(request.destination, PathUse::kWrite));
  RESHARD_ASSIGN(auto live, LiveSource::Make(tensors));
  LiveSource* const source = live.get();
  std::vector<SourceFile> inputs = FindInputs(request);
  AddConfigs(request, *source, &inputs);
  RESHARD_ASSIGN(MappedSource mapped, MapSource(request, std::move(live), reporter));
  RESHARD_ASSIGN(Plan plan, PlanOutput(request, &mapped, reporter));
  if (!plan.checks.empty())
    return std::unexpected(
        Error{.kind = ErrorKind::kMapping,
              .tensor = plan.checks[0].name,
              .found = "it is left out, and would have to be compared over several processes",
              .expected = "tensors that are all written",
              .help = "leave it out of the state dict that is saved"});
  SettleInputs(plan, mapped.assets, &inputs);
  (void)mapped.source.release();
  std::unique_ptr<State> state(new State{.request = request,
                                         .source = std::unique_ptr<LiveSource>(source),
                                         .recipe_text = mapped.flavors.text(),
                                         .plan = std::move(plan),
                                         .inputs = std::move(inputs)});
  RESHARD_ASSIGN(state->staging,
                 StagedOutput::PathFor(request.destination, state->plan.summary.plan_id));
  RESHARD_ASSIGN(state->writer,
                 ShardWriter::Make(state->plan, *state->source, rank, state->staging));
  return SharedSave(std::move(state));
}

const PlanSummary& SharedSave::summary() const { return state_->plan.summary; }
std::string SharedSave::staging() const { return state_->staging.string(); }

Result<> SharedSave::Create(bool force, Reporter& reporter) {
  RESHARD_ASSIGN(StagedOutput output,
                 StagedOutput::Open(state_->request.destination, state_->plan.summary.plan_id,
                                    {.force = force, .resume = false}));
  WarnOfReplacing(output, state_->request.destination, reporter);
  if (auto room = output.CheckRoom(state_->plan.total_bytes()); !room) {
    output.Abandon();
    return room;
  }
  for (const FilePlan& file : state_->plan.files) {
    auto written = WriteOwn(file, output.directory());
    if (!written) {
      output.Abandon();
      return written;
    }
  }
  state_->output.emplace(std::move(output));
  return {};
}

Result<> SharedSave::Write(const std::vector<LiveBytes>& shards, unsigned jobs,
                           const std::atomic<bool>* cancelled, Reporter& reporter) {
  LiveSource& source = *state_->source;
  RESHARD_ASSIGN(const std::vector<uint32_t> chunks, source.Lend(shards));
  auto written = state_->writer->Write(chunks, reporter,
                                       {.jobs = JobsFor(jobs, 0), .cancelled = cancelled});
  source.TakeBack();
  return written;
}

Result<> SharedSave::Sync() { return state_->writer->Sync(); }

std::vector<std::pair<std::string, uint64_t>> SharedSave::overflows() const {
  const auto& overflows = state_->writer->overflows();
  return {overflows.begin(), overflows.end()};
}

Result<std::string> SharedSave::Sum(uint64_t part, uint64_t parts, unsigned jobs,
                                    const std::atomic<bool>* cancelled) const {
  uint64_t blocks = 0;
  for (const FilePlan& file : state_->plan.files) blocks += BlockCount(file.size);
  const uint64_t begin = blocks * part / parts, end = blocks * (part + 1) / parts;
  std::string text;
  uint64_t first = 0;  // block of the file, among all
  for (const FilePlan& file : state_->plan.files) {
    const uint64_t last = first + BlockCount(file.size);
    if (first < end && last > begin) {
      RESHARD_ASSIGN(const std::vector<uint64_t> sums,
                     SumBlocks(state_->staging / file.path, std::max(first, begin) - first,
                               std::min(last, end) - first,
                               {.jobs = JobsFor(jobs, 0), .cancelled = cancelled}));
      for (uint64_t sum : sums) AppendLittle(sum, &text);
    }
    first = last;
  }
  return text;
}

Result<ConvertSummary> SharedSave::Commit(const std::vector<std::string>& parts,
                                          Reporter& reporter) {
  const Plan& plan = state_->plan;
  StagedOutput& output = *state_->output;
  std::string sums;
  for (const std::string& part : parts) sums += part;
  std::vector<FileChecksum> files;
  size_t used = 0;
  for (const FilePlan& file : plan.files) {
    FileChecksum& sum = files.emplace_back(FileChecksum{.size = file.size});
    for (uint64_t block = 0; block < BlockCount(sum.size); ++block, used += 8) {
      if (sums.size() < used + 8) return BadSums();
      sum.blocks.push_back(LoadLittle<uint64_t>(&sums[used]));
    }
  }
  if (used != sums.size()) return BadSums();
  RESHARD_TRY(CheckUnchanged(*state_->source, state_->inputs));
  for (const FilePlan& file : plan.files)
    RESHARD_TRY(output.directory().Rename(FileJob::StagedName(file.path), file.path));
  RESHARD_TRY(output.directory().WriteText(
      std::string(kManifestName), WriteManifest(state_->request, plan, state_->recipe_text, files)));
  RESHARD_TRY(output.Commit(FilesOf(plan)));
  for (const fs::path& left : output.Finish())
    reporter.OnWarning(fmt::format("'{}' is no longer needed and could not be deleted; delete it",
                                   left.string()));
  ConvertSummary summary{.plan = plan.summary,
                         .bytes_written = plan.total_bytes(),
                         .files = plan.files.size(),
                         .left_behind = plan.left_behind,
                         .missing_assets = plan.missing_assets};
  summary.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - state_->start).count();
  return summary;
}

void SharedSave::Abandon() {
  if (state_->output) state_->output->Abandon();
}

}  // namespace reshard
