#include "api/mapped_source.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <ranges>

#include <fmt/format.h>

#include "api/restored.h"
#include "base/try.h"
#include "checkpoints/hf/hf_config.h"
#include "io/directory.h"
#include "plan/planner.h"
#include "reshard/local_path.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

struct Rules {
  CastRules casts;
  std::vector<Regex> ignore;
};

Result<Rules> CompileRules(const ConvertRequest& request) {
  Rules rules{.casts = {.all = request.dtype, .dequantized = request.dequantize}};
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

// Where config and tokenizer lie: as asked, or with the weights, or beside the checkpoint.
Result<std::string> AssetsDirectory(const ConvertRequest& request, const Source& source) {
  if (!request.assets_from.empty() || source.root().empty()) return request.assets_from;
  const fs::path root = source.root();
  RESHARD_ASSIGN(const PathKind with, KindAt(root / "config.json"));
  if (with != PathKind::kNothing) return source.root();
  // A directory above that we may not look into has no say.
  const auto beside = KindAt(root.parent_path() / "config.json");
  return beside == PathKind::kFile ? root.parent_path().string() : source.root();
}

Result<> CheckAssetsDirectory(const std::string& directory) {
  RESHARD_TRY(CheckIsLocal(directory, PathUse::kRead));
  if (directory.empty()) return {};
  RESHARD_ASSIGN(const PathKind kind, KindAt(directory));
  if (kind == PathKind::kDirectory) return {};
  return std::unexpected(Error{.kind = ErrorKind::kUsage,
                               .file = directory,
                               .found = "this is no directory",
                               .expected = "the directory of config.json and the tokenizer",
                               .help = "check --assets-from"});
}

// What the target's readers know: the names and shapes of the directory it is to be like, else the
// names of the index beside the config.
HubStyle StyleFor(const ConvertRequest& request, const Likeness& like) {
  HubStyle style{.shapes = like.shapes, .form = request.hub_form};
  const auto add_names = [&](const Likeness& known) {
    for (const auto& [name, file] : known.files) style.names.insert(name);
  };
  add_names(like);
  if (!style.names.empty() || request.assets_from.empty()) return style;
  if (const auto index = ReadLikeness(request.assets_from)) add_names(*index);
  return style;
}

Result<ModelConfig> ConfigOf(const ConvertRequest& request, const Source& source,
                             const std::string& assets, Reporter& reporter) {
  if (!request.config_json.empty())
    return ModelConfig::Parse(request.config_json, "the config that was given");
  if (assets.empty()) return ModelConfig();
  auto config = ReadModelConfig(assets);
  if (config || request.to == Kind::kMegatron || source.kind() == "megatron") return config;
  reporter.OnWarning(
      fmt::format("{}: {}; its sizes are not known", config.error().file, config.error().found));
  return ModelConfig();
}

std::unexpected<Error> NotUsed(std::string found, std::string expected) {
  return std::unexpected(Error{.kind = ErrorKind::kUsage,
                               .found = std::move(found),
                               .expected = std::move(expected)});
}

// What is asked for and could change nothing is a mistake.
Result<> CheckAllIsUsed(const ConvertRequest& request, const Source& source) {
  if (request.from_layout != LayoutRequest() && source.kind() != "megatron")
    return NotUsed(fmt::format("the layout of a source that is {}: {}", source.kind(),
                               source.root()),
                   "a Megatron checkpoint with --from-layout");
  if (request.to == Kind::kHf && !request.vocab_padding.IsNone() && source.kind() != "megatron")
    return NotUsed("--pad-vocab-to with --to hf", "the files of Megatron's ranks as the source");
  if (request.to != Kind::kHf && !request.like.empty())
    return NotUsed("--like without --to hf", "a Hugging Face directory as the target");
  if (request.to != Kind::kHf && request.weights != Weights::kSafetensors)
    return NotUsed("--weights bin without --to hf", "a Hugging Face directory as the target");
  return {};
}

// The source, with what its flavor leaves out of the model from the directory that the target is to
// be like.
Result<std::unique_ptr<Source>> WithRestored(const ConvertRequest& request, const Flavors& flavors,
                                             const ModelConfig& config,
                                             std::unique_ptr<Source> source) {
  if (!flavors.from || request.like.empty() || !request.only.empty()) return source;
  RESHARD_ASSIGN(const auto names, RestoredNames(flavors.from->recipe, config));
  return AddRestored(std::move(source), names, request.like);
}

}  // namespace

Result<MappedSource> MapSource(const ConvertRequest& request, std::unique_ptr<Source> source,
                               Reporter& reporter, const std::vector<Dropped>& replaced) {
  RESHARD_ASSIGN(const Rules rules, CompileRules(request));
  MappedSource mapped;
  RESHARD_TRY(CheckAllIsUsed(request, *source));
  const size_t own_notes = source->notes().size();
  for (const std::string& note : source->notes()) reporter.OnWarning(note);
  RESHARD_ASSIGN(mapped.assets, AssetsDirectory(request, *source));
  RESHARD_TRY(CheckAssetsDirectory(mapped.assets));
  RESHARD_ASSIGN(const ModelConfig config, ConfigOf(request, *source, mapped.assets, reporter));
  // A model in memory knows its sizes, but not how its weights were stored.
  if (request.config_json.empty())
    mapped.stored_config = config;
  else if (!mapped.assets.empty())
    mapped.stored_config = ReadModelConfig(mapped.assets).value_or(ModelConfig());
  if (!request.like.empty()) {
    RESHARD_ASSIGN(mapped.like, ReadLikeness(request.like));
  }
  RESHARD_ASSIGN(mapped.flavors, ChooseFlavors(request, *source, config));
  RESHARD_ASSIGN(mapped.source, WithRestored(request, mapped.flavors, config, std::move(source)));
  const Source& from = *mapped.source;
  for (const std::string& note : from.notes() | std::views::drop(own_notes))
    reporter.OnWarning(note);
  RESHARD_ASSIGN(mapped.target,
                 MapTensors(request, from, mapped.flavors, config, mapped.stored_config,
                            rules.ignore, rules.casts, StyleFor(request, mapped.like)));
  Mapping& mapping = mapped.target.mapping;
  for (const std::string& warning : mapping.warnings) reporter.OnWarning(warning);
  mapping.warnings.insert(mapping.warnings.begin(), from.notes().begin(), from.notes().end());
  std::ranges::copy(replaced, std::back_inserter(mapping.dropped));
  RESHARD_TRY(CheckMapping(mapping, from.catalog()));
  return mapped;
}

}  // namespace reshard
