#include "reshard/convert.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

#include <fmt/format.h>

#include "api/flavors.h"
#include "api/manifest.h"
#include "api/outputs.h"
#include "base/try.h"
#include "checkpoints/hf/hf_assets.h"
#include "checkpoints/hf/hf_config.h"
#include "checkpoints/joined_source.h"
#include "checkpoints/megatron/megatron_sink.h"
#include "engine/runner.h"
#include "engine/window.h"
#include "io/file.h"
#include "plan/planner.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kDefaultMemory = uint64_t{48} << 20;

struct Rules {
  CastRules casts;
  std::vector<Regex> ignore;
};

Result<Rules> CompileRules(const ConvertRequest& request) {
  Rules rules{.casts = {.all = request.dtype}};
  for (const auto& [expression, dtype] : request.dtype_for) {
    RESHARD_ASSIGN(Regex regex, Regex::Compile(expression));
    rules.casts.overrides.emplace_back(std::move(regex), dtype);
  }
  for (const std::string& expression : request.ignore) {
    RESHARD_ASSIGN(Regex regex, Regex::Compile(expression));
    rules.ignore.push_back(std::move(regex));
  }
  return rules;
}

// The type that most of the floating bytes have: what config.json should say.
std::optional<DType> MainDType(const std::vector<NamedView>& tensors) {
  std::map<DType, uint64_t> bytes;
  for (const NamedView& tensor : tensors) {
    if (IsCastable(tensor.view.dtype())) bytes[tensor.view.dtype()] += tensor.view.byte_size();
  }
  const auto most = std::ranges::max_element(bytes, {}, &std::pair<const DType, uint64_t>::second);
  if (most == bytes.end()) return std::nullopt;
  return most->first;
}

Result<> PlanAssets(const fs::path& directory, std::optional<DType> dtype, Plan* plan) {
  RESHARD_ASSIGN(HfAssets assets, CollectAssets(directory, dtype));
  for (HfAsset& asset : assets.files) {
    if (asset.text)
      plan->files.push_back(TextFile(asset.path, std::move(*asset.text)));
    else
      plan->files.push_back({.path = asset.path, .size = asset.size, .copy_of = asset.from});
  }
  plan->missing_assets = std::move(assets.missing);
  return {};
}

// What says the model's sizes goes with it, for whoever takes the checkpoint further.
void PlanConfig(const fs::path& directory, Plan* plan) {
  const fs::path config = directory / "config.json";
  std::error_code code;
  const uint64_t size = fs::file_size(config, code);
  if (!code) plan->files.push_back({.path = "config.json", .size = size, .copy_of = config.string()});
}

// Where config and tokenizer lie: as asked, or with the weights, or beside the checkpoint.
std::string AssetsDirectory(const ConvertRequest& request, const Source& source) {
  if (!request.assets_from.empty()) return request.assets_from;
  const fs::path beside = fs::path(source.root()).parent_path();
  std::error_code code;
  const bool only_beside = !fs::exists(fs::path(source.root()) / "config.json", code) &&
                           fs::exists(beside / "config.json", code);
  return only_beside ? beside.string() : source.root();
}

Result<> CheckAssetsDirectory(const std::string& directory) {
  std::error_code code;
  if (fs::is_directory(directory, code)) return {};
  return std::unexpected(Error{.kind = ErrorKind::kUsage,
                               .file = directory,
                               .found = "this is no directory",
                               .expected = "the directory of config.json and the tokenizer",
                               .help = "check --assets-from"});
}

// The names that the target's readers know: those of the directory it is to be like, else of the
// index beside the config.
std::set<std::string> HubSpelling(const ConvertRequest& request,
                                  const std::map<std::string, std::string>& like) {
  std::set<std::string> names;
  for (const auto& [name, file] : like) names.insert(name);
  if (!names.empty() || request.assets_from.empty()) return names;
  if (const auto index = ReadLikeness(request.assets_from))
    for (const auto& [name, file] : *index) names.insert(name);
  return names;
}

std::unexpected<Error> NothingToWrite(const Source& source, const Flavors& flavors,
                                      Reporter& reporter) {
  reporter.OnWarning("No model weights found in checkpoint.");
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .file = source.root(),
            .found = fmt::format("recipe '{}' takes none of the {} tensors", flavors.name(),
                                 source.catalog().tensors().size()),
            .expected = "weights of a model",
            .help = "reshard inspect shows the names; reshard recipe list, what other recipes "
                    "there are"});
}

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

uint64_t MemoryFor(const RunOptions& options) {
  return options.memory > 0 ? options.memory : kDefaultMemory;
}

unsigned JobsFor(const RunOptions& options) {
  const unsigned wanted =
      options.jobs > 0 ? options.jobs : std::max(1u, std::thread::hardware_concurrency());
  return static_cast<unsigned>(
      std::clamp<uint64_t>(MemoryFor(options) / (kFillerBytes + kWindowBytes), 1, wanted));
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
  RESHARD_ASSIGN(const Rules rules, CompileRules(request));
  RESHARD_ASSIGN(auto source, OpenSource(request.source, request.from));
  if (!request.llm_from.empty()) {
    RESHARD_ASSIGN(auto llm, OpenSource(request.llm_from, "hf"));
    RESHARD_ASSIGN(source, JoinSources(std::move(source), std::move(llm)));
  }
  RESHARD_TRY(CheckDestination(request, *source));
  for (const std::string& note : source->notes()) reporter.OnWarning(note);
  const Catalog& catalog = source->catalog();
  const std::string assets = AssetsDirectory(request, *source);
  RESHARD_TRY(CheckAssetsDirectory(assets));
  auto config_or = ReadModelConfig(assets);
  if (!config_or) {
    if (request.to == Kind::kMegatron || source->kind() == "megatron")
      return std::unexpected(std::move(config_or).error());
    reporter.OnWarning(fmt::format("{}: {}; its sizes are not known", config_or.error().file,
                                   config_or.error().found));
    config_or = ModelConfig();
  }
  const ModelConfig config = *std::move(config_or);
  std::map<std::string, std::string> like;
  if (!request.like.empty()) {
    RESHARD_ASSIGN(like, ReadLikeness(request.like));
  }

  RESHARD_ASSIGN(const Flavors flavors, ChooseFlavors(request, *source, config));
  RESHARD_ASSIGN(TargetTensors target, MapTensors(request, *source, flavors, config, rules.ignore,
                                                  rules.casts, HubSpelling(request, like)));
  for (const std::string& warning : target.mapping.warnings) reporter.OnWarning(warning);
  if (target.mapping.tensors.empty()) return NothingToWrite(*source, flavors, reporter);
  RESHARD_TRY(CheckMapping(target.mapping, catalog));

  Plan plan{.summary = {.source_kind = std::string(source->kind()),
                        .recipe = flavors.name(),
                        .recipe_why = flavors.why(),
                        .assets_from = assets},
            .checks = std::move(target.mapping.checks),
            .dropped = std::move(target.mapping.dropped),
            .dropped_parts = std::move(target.mapping.dropped_parts),
            .warnings = std::move(target.mapping.warnings)};
  switch (request.to) {
    case Kind::kHf:
      RESHARD_TRY(PlanHf(request, target.mapping.tensors, like, &plan));
      RESHARD_TRY(PlanAssets(assets, MainDType(target.mapping.tensors), &plan));
      break;
    case Kind::kDcp: RESHARD_TRY(PlanDcp(request, target.mapping.tensors, &plan)); break;
    case Kind::kMegatron: RESHARD_TRY(PlanMegatron(std::move(target), &plan)); break;
  }
  if (request.to != Kind::kHf) PlanConfig(assets, &plan);
  RESHARD_TRY(CheckPlan(plan, catalog,
                        request.to == Kind::kHf ? Replicas::kNone : Replicas::kUniform));
  Summarize(catalog, flavors.text(), RequestJson(request), &plan);
  return Conversion(std::make_unique<State>(
      State{request, std::move(source), flavors.text(), std::move(plan)}));
}

Result<ConvertSummary> Conversion::Run(const RunOptions& options, Reporter& reporter) {
  const auto start = std::chrono::steady_clock::now();
  const Plan& plan = state_->plan;
  const fs::path destination = OutputDirectory(state_->request);
  RESHARD_ASSIGN(StagedOutput output,
                 StagedOutput::Open(destination, plan.summary.plan_id,
                                    {.force = options.force, .resume = options.resume}));
  if (output.replaces() && !fs::exists(destination / kManifestName))
    reporter.OnWarning(fmt::format("'{}' is not an output of reshard; all that it holds goes when "
                                   "the new output is complete",
                                   destination.string()));
  for (const fs::path& other : output.LeftByOthers())
    reporter.OnWarning(fmt::format("'{}' is left of a run with other options; delete it if that "
                                   "run is not to go on",
                                   other.string()));
  RESHARD_ASSIGN(const RunReport report,
                 RunPlan(plan, *state_->source, output, reporter,
                         {.jobs = JobsFor(options),
                          .memory = MemoryFor(options),
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
                         .missing_assets = plan.missing_assets};
  for (const Overflow& overflow : report.overflows)
    summary.overflows.emplace_back(overflow.tensor, overflow.count);
  summary.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace reshard
