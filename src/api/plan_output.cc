#include "api/plan_output.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "api/kept_names.h"
#include "api/manifest.h"
#include "api/one_rank.h"
#include "api/outputs.h"
#include "api/restored.h"
#include "base/try.h"
#include "checkpoints/hf/hf_assets.h"
#include "checkpoints/hf/hf_source.h"
#include "io/directory.h"
#include "io/file.h"
#include "plan/planner.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

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

// Whether the config beside the weights says that they are float8, and they are not: it was that of
// what they were made of, or of the model that they were trained from.
bool ConfigIsOutdated(const ConvertRequest& request, const ModelConfig& config,
                      const std::vector<NamedView>& tensors) {
  if (request.dequantize) return true;
  return config.Number("quantization_config.quant_method.fp8") == 1 &&
         std::ranges::none_of(tensors, [](const NamedView& tensor) {
           return IsFloat8(tensor.view.dtype());
         });
}

// What of the assets' directory goes with the model. A checkpoint may lie among anything: only what
// was named as a model's directory, or has a config.json, is one.
Result<SideFileScope> ScopeFor(const ConvertRequest& request, const Source& source,
                               const fs::path& directory) {
  RESHARD_ASSIGN(const PathKind config, KindAt(directory / "config.json"));
  RESHARD_ASSIGN(const PathKind input, KindAt(request.source));
  const bool is_hub = source.kind() == "hf" && input == PathKind::kDirectory;
  SideFileScope scope{.is_model = config == PathKind::kFile || is_hub ||
                                  !request.assets_from.empty()};
  for (const SourceFile& file : source.catalog().files()) {
    const fs::path path = (fs::path(source.root()) / file.path).lexically_relative(directory);
    if (!path.empty() && *path.begin() != "..") scope.weights.insert(path.string());
  }
  // Of a base model what a loader would read; a set that is not complete serves for its names.
  const HfFiles weights = FindHfFiles(directory).value_or(HfFiles());
  scope.weights.insert(weights.names.begin(), weights.names.end());
  if (!weights.index.empty()) scope.weights.insert(weights.index);
  return scope;
}

Result<> PlanAssets(const ConvertRequest& request, const Source& source, const fs::path& directory,
                    const ConfigEdits& edits, Plan* plan) {
  if (directory.empty()) return {};
  RESHARD_ASSIGN(const SideFileScope scope, ScopeFor(request, source, directory));
  RESHARD_ASSIGN(HfAssets assets, CollectAssets(directory, edits, scope));
  for (HfAsset& asset : assets.files) {
    if (asset.text)
      plan->files.push_back(TextFile(asset.path, std::move(*asset.text)));
    else
      plan->files.push_back({.path = asset.path, .size = asset.size, .copy_of = asset.from});
  }
  plan->left_behind = std::move(assets.left_behind);
  plan->missing_assets = std::move(assets.missing);
  return {};
}

// What says the model's sizes goes with it, for whoever takes the checkpoint further.
Result<> PlanConfig(const fs::path& directory, Plan* plan) {
  if (directory.empty()) return {};
  RESHARD_ASSIGN(const PathKind kind, KindAt(directory / "config.json"));
  if (kind != PathKind::kFile) return {};
  RESHARD_ASSIGN(SourceFile config, StatFile(directory, "config.json"));
  plan->files.push_back({.path = std::move(config.path),
                         .size = config.size,
                         .copy_of = (directory / "config.json").string()});
  return {};
}

// Whether any file is copied, or would be but for an edit.
bool HasAssets(const Plan& plan) {
  return std::ranges::any_of(plan.files, [](const FilePlan& file) {
    return !file.copy_of.empty() || file.path == "config.json";
  });
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

}  // namespace

Result<Plan> PlanOutput(const ConvertRequest& request, MappedSource* mapped, Reporter& reporter) {
  const Flavors& flavors = mapped->flavors;
  const Catalog& catalog = mapped->source->catalog();
  TargetTensors& target = mapped->target;
  if (target.mapping.tensors.empty()) return NothingToWrite(*mapped->source, flavors, reporter);
  if (request.to == Kind::kHf && flavors.from && flavors.from->fallback)
    RESHARD_TRY(CheckKeptNames(*mapped->source, mapped->stored_config, target.mapping.tensors));
  Plan plan{.summary = {.source_kind = std::string(mapped->source->kind()),
                        .recipe = flavors.name(),
                        .recipe_why = flavors.why(),
                        .kept_types = std::move(target.mapping.kept_types)},
            .checks = std::move(target.mapping.checks),
            .dropped = std::move(target.mapping.dropped),
            .dropped_parts = std::move(target.mapping.dropped_parts),
            .warnings = std::move(target.mapping.warnings)};
  switch (request.to) {
    case Kind::kHf:
      RESHARD_TRY(CheckNamesNoRank(target.mapping.tensors, flavors.name()));
      RESHARD_TRY(CheckRestored(target.not_held, request.like));
      RESHARD_TRY(PlanHf(request, target.mapping.tensors, mapped->like.files,
                         mapped->source->metadata(), &plan));
      RESHARD_TRY(PlanAssets(
          request, *mapped->source, mapped->assets,
          {.dtype = MainDType(target.mapping.tensors),
           .dequantized = ConfigIsOutdated(request, mapped->stored_config, target.mapping.tensors)},
          &plan));
      break;
    case Kind::kDcp: {
      RESHARD_ASSIGN(CarriedState state, CarryState(request, flavors, *mapped->source,
                                                    target.mapping.tensors));
      RESHARD_TRY(PlanDcp(request, target.mapping.tensors, std::move(state), &plan));
      break;
    }
    case Kind::kMegatron: RESHARD_TRY(PlanMegatron(std::move(target), &plan)); break;
  }
  if (request.to != Kind::kHf) RESHARD_TRY(PlanConfig(mapped->assets, &plan));
  if (HasAssets(plan) || !plan.left_behind.empty()) plan.summary.assets_from = mapped->assets;
  RESHARD_TRY(CheckPlan(plan, catalog,
                        request.to == Kind::kHf ? Replicas::kNone : Replicas::kUniform));
  Summarize(catalog, flavors.text(), RequestJson(request), &plan);
  return plan;
}

}  // namespace reshard
