#include "api/one_rank.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "checkpoints/megatron/other_layout.h"
#include "checkpoints/megatron/rank_name.h"
#include "recipe/recipe.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// How many words of a wrapper may stand before the name that a flavor has.
constexpr int kMaxPrefixes = 3;

bool HasDirectoryOfRank(const fs::path& file) {
  const std::string directory = file.parent_path().filename().string();
  return megatron::ParseRankName(directory) || directory.starts_with("tp_rank_");
}

// What Megatron writes beside the model, and nobody else.
bool HasVersion(const Catalog& catalog) {
  return std::ranges::any_of(
             catalog.objects(),
             [](const Object& object) { return object.name == "checkpoint_version"; }) &&
         std::ranges::any_of(catalog.tensors(), [](const Tensor& tensor) {
           return megatron::ParseChunk(tensor.name.substr(0, tensor.name.find('.'))).has_value();
         });
}

// Whether a flavor that deals a model out to ranks has a layer's tensor of this name.
bool IsOfRanks(std::string_view name) {
  for (const Recipe& recipe : BuiltInRecipes()) {
    if (!recipe.deals_out()) continue;
    for (const Rule& rule : recipe.rules())
      if (rule.stage.place == Stage::Place::kLayer)
        for (const Pattern& here : rule.here)
          if (here.Match(name)) return true;
  }
  return false;
}

// The same behind words of a wrapper, as in "module.model.decoder...".
bool EndsAsOfRanks(std::string_view name) {
  for (int prefixes = 0; prefixes <= kMaxPrefixes; ++prefixes) {
    if (IsOfRanks(name)) return true;
    const size_t dot = name.find('.');
    if (dot == std::string_view::npos) return false;
    name.remove_prefix(dot + 1);
  }
  return false;
}

// A tensor with such a name, where at least half of all names are like that: some models of the hub
// have a decoder.layers.0.input_layernorm, too. Those that differ in numbers alone count once.
std::optional<std::string> NameOfRanks(const Catalog& catalog) {
  std::set<std::string> forms;
  size_t of_ranks = 0;
  std::optional<std::string> example;
  for (const Tensor& tensor : catalog.tensors()) {
    std::string form = tensor.name;
    std::ranges::replace_if(form, [](char c) { return c >= '0' && c <= '9'; }, '0');
    if (!forms.insert(std::move(form)).second || !EndsAsOfRanks(tensor.name)) continue;
    ++of_ranks;
    if (!example) example = tensor.name;
  }
  return 2 * of_ranks >= forms.size() ? example : std::nullopt;
}

std::string EvidenceOfRank(const fs::path& file, const Catalog& catalog) {
  if (HasDirectoryOfRank(file))
    return fmt::format("it lies in {}", file.parent_path().filename().string());
  if (HasVersion(catalog)) return "it has 'checkpoint_version' beside the model";
  if (const auto name = NameOfRanks(catalog)) return fmt::format("it has '{}'", *name);
  return {};
}

std::string HelpFor(const fs::path& file) {
  if (HasDirectoryOfRank(file)) {
    const auto* other = megatron::FindOtherLayout(file.filename().string());
    return other ? std::string(other->help)
                 : fmt::format("give the directory above: {}",
                               file.parent_path().parent_path().string());
  }
  return "give the directory that the ranks' directories lie in (mp_rank_00, ...); where there is one "
         "rank alone, put the file there as mp_rank_00/model_optim_rng.pt";
}

}  // namespace

Result<> CheckIsNotOneRank(const ConvertRequest& request, const Source& source) {
  if (source.kind() != "pt" || source.catalog().files().size() != 1) return {};
  const std::string& recipe = request.recipe == "auto" ? request.from_recipe : request.recipe;
  if (recipe.ends_with(".toml") || (request.to == Kind::kDcp && recipe == "identity")) return {};
  const fs::path file = fs::path(source.root()) / source.catalog().files()[0].path;
  const std::string evidence = EvidenceOfRank(file, source.catalog());
  if (evidence.empty()) return {};
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .file = file.string(),
            .found = fmt::format("this is what one rank of a Megatron model has saved: {}", evidence),
            .expected = "the checkpoint with the files of all ranks",
            .help = HelpFor(file)});
}

Result<> CheckNamesNoRank(const std::vector<NamedView>& tensors, const std::string& recipe) {
  const auto named = std::ranges::find_if(tensors, [](const NamedView& tensor) {
    return megatron::ParseTensorName(tensor.name).has_value();
  });
  if (named == tensors.end()) return {};
  std::set<std::string> flavors;
  for (const Recipe& each : BuiltInRecipes())
    if (each.deals_out()) flavors.emplace(each.flavor());
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .tensor = named->name,
            .found = fmt::format("recipe '{}' would write each rank's part of a tensor under a name "
                                 "of its own, which no model has",
                                 recipe),
            .expected = fmt::format("a recipe that puts the parts together: {}",
                                    fmt::join(flavors, ", ")),
            .help = "give the model's config.json by --assets-from, and leave out --recipe or name "
                    "one of these"});
}

}  // namespace reshard
