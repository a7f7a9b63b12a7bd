#include "reshard/convert.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <thread>

#include <fmt/format.h>

#include "api/manifest.h"
#include "base/try.h"
#include "checkpoints/hf/hf_assets.h"
#include "checkpoints/hf/hf_index.h"
#include "checkpoints/hf/hf_sink.h"
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

// The weight files and their index, without their place in the world.
Result<> PlanWeights(const ConvertRequest& request, const std::vector<NamedView>& tensors,
                     Plan* plan) {
  const auto contents = PackFiles(tensors, request.packing, request.shard_size);
  std::map<std::string, std::string> weight_map;
  uint64_t total_size = 0;
  for (size_t i = 0; i < contents.size(); ++i) {
    std::vector<TensorDecl> declared;
    for (size_t index : contents[i])
      declared.push_back(
          {tensors[index].name, tensors[index].view.dtype(), tensors[index].view.shape()});
    RESHARD_ASSIGN(FileLayout layout, LayoutWeights(request.weights, declared));
    const std::string name = WeightFileName(request.weights, i, contents.size());
    plan->files.push_back(FillSlots(name, std::move(layout), contents[i], tensors));
    for (const Slot& slot : plan->files.back().slots) {
      weight_map[slot.name] = name;
      total_size += slot.byte_size();
    }
  }
  if (contents.size() > 1)
    plan->files.push_back(
        TextFile(IndexFileName(request.weights), WriteWeightMap(total_size, weight_map)));
  return {};
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

// Where config and tokenizer lie: as asked, or with the weights, or beside the checkpoint.
std::string AssetsDirectory(const ConvertRequest& request, const Source& source) {
  if (!request.assets_from.empty()) return request.assets_from;
  const fs::path beside = fs::path(source.root()).parent_path();
  std::error_code code;
  const bool only_beside = !fs::exists(fs::path(source.root()) / "config.json", code) &&
                           fs::exists(beside / "config.json", code);
  return only_beside ? beside.string() : source.root();
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

unsigned JobsFor(const RunOptions& options) {
  const unsigned wanted =
      options.jobs > 0 ? options.jobs : std::max(1u, std::thread::hardware_concurrency());
  const uint64_t memory = options.memory > 0 ? options.memory : kDefaultMemory;
  return static_cast<unsigned>(
      std::clamp<uint64_t>(memory / (kFillerBytes + kWindowBytes), 1, wanted));
}

}  // namespace

struct Conversion::State {
  ConvertRequest request;
  std::unique_ptr<Source> source;
  Recipe recipe;
  Plan plan;
};

Conversion::Conversion(std::unique_ptr<State> state) : state_(std::move(state)) {}
Conversion::Conversion(Conversion&&) noexcept = default;
Conversion& Conversion::operator=(Conversion&&) noexcept = default;
Conversion::~Conversion() = default;

const PlanSummary& Conversion::summary() const { return state_->plan.summary; }
PlanDescription Conversion::Describe() const {
  return reshard::Describe(state_->plan, state_->source->catalog());
}

Result<Conversion> Conversion::Prepare(const ConvertRequest& request, Reporter& reporter) {
  RESHARD_ASSIGN(const Rules rules, CompileRules(request));
  RESHARD_ASSIGN(auto source, OpenSource(request.source, request.from));
  RESHARD_TRY(CheckDestination(request, *source));
  for (const std::string& note : source->notes()) reporter.OnWarning(note);
  const Catalog& catalog = source->catalog();

  RESHARD_ASSIGN(ChosenRecipe chosen, ChooseRecipe(request.recipe, catalog));
  RESHARD_ASSIGN(Mapping mapping, chosen.recipe.Apply(catalog, rules.ignore));
  for (const std::string& warning : mapping.warnings) reporter.OnWarning(warning);
  if (mapping.tensors.empty()) {
    const std::string nothing = "No model weights found in checkpoint.";
    reporter.OnWarning(nothing);
    return std::unexpected(
        Error{.kind = ErrorKind::kMapping,
              .file = source->root(),
              .found = fmt::format("recipe '{}' takes none of the {} tensors", chosen.recipe.name(),
                                   catalog.tensors().size()),
              .expected = "weights of a model",
              .help = "reshard inspect shows the names; reshard recipe list, what other recipes "
                      "there are"});
  }
  RESHARD_TRY(ApplyCasts(rules.casts, &mapping));

  Plan plan{.summary = {.source_kind = std::string(source->kind()),
                        .recipe = chosen.recipe.name(),
                        .recipe_why = chosen.why},
            .dropped = std::move(mapping.dropped),
            .warnings = std::move(mapping.warnings)};
  RESHARD_TRY(PlanWeights(request, mapping.tensors, &plan));
  const std::string assets = AssetsDirectory(request, *source);
  plan.summary.assets_from = assets;
  std::error_code code;
  if (!fs::is_directory(assets, code))
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .file = assets,
                                 .found = "this is no directory",
                                 .expected = "the directory of config.json and the tokenizer",
                                 .help = "check --assets-from"});
  RESHARD_TRY(PlanAssets(assets, MainDType(mapping.tensors), &plan));
  RESHARD_TRY(CheckPlan(plan, catalog));
  Summarize(catalog, chosen.recipe.text(), RequestJson(request), &plan);
  return Conversion(std::make_unique<State>(
      State{request, std::move(source), std::move(chosen.recipe), std::move(plan)}));
}

Result<ConvertSummary> Conversion::Run(const RunOptions& options, Reporter& reporter) {
  const auto start = std::chrono::steady_clock::now();
  const Plan& plan = state_->plan;
  RESHARD_ASSIGN(StagedOutput output,
                 StagedOutput::Open(state_->request.destination, plan.summary.plan_id,
                                    {.force = options.force, .resume = options.resume}));
  if (output.replaces() && !fs::exists(fs::path(state_->request.destination) / kManifestName))
    reporter.OnWarning(fmt::format("'{}' is not an output of reshard; all that it holds goes when "
                                   "the new output is complete",
                                   state_->request.destination));
  for (const fs::path& other : output.LeftByOthers())
    reporter.OnWarning(fmt::format("'{}' is left of a run with other options; delete it if that "
                                   "run is not to go on",
                                   other.string()));
  RESHARD_ASSIGN(const RunReport report,
                 RunPlan(plan, *state_->source, output, reporter,
                         {.jobs = JobsFor(options), .cancelled = options.cancelled}));
  RESHARD_TRY(WriteTextFile(
      output.path() / kManifestName,
      WriteManifest(state_->request, plan, state_->recipe.text(), report.files)));
  RESHARD_TRY(output.Commit());

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
