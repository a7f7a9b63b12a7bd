#include "api/flavors.h"

#include <algorithm>
#include <iterator>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "api/ranks.h"
#include "api/unreadable.h"
#include "base/try.h"
#include "checkpoints/megatron/rank_name.h"
#include "recipe/completeness.h"
#include "recipe/quantized.h"

namespace reshard {
namespace {

// Whether it says which ranks of this model hold what.
bool DealsOut(const Recipe& recipe, const ModelConfig& config) {
  return recipe.deals_out() &&
         std::ranges::find_first_of(recipe.models(), config.architectures()) !=
             recipe.models().end();
}

// Whether a recipe has a rule for every tensor of the ranks, those included that a model has on
// several stages only.
Result<bool> KnowsRankNames(const Recipe& recipe, const ModelConfig& config, const Source& source) {
  RESHARD_ASSIGN(const BoundRecipe bound, BoundRecipe::Bind(recipe, config, {{"pp", 2}}));
  return std::ranges::all_of(source.catalog().tensors(), [&](const Tensor& tensor) {
    const auto name = megatron::ParseTensorName(tensor.name);
    return name && bound.FindHere(name->key);
  });
}

// The flavors whose recipes know every name of the ranks' tensors.
Result<ChosenRecipe> TellByRankNames(const Source& source, const ModelConfig& config) {
  std::vector<const Recipe*> fits;
  std::vector<std::string> candidates;
  for (const Recipe& recipe : BuiltInRecipes()) {
    if (!DealsOut(recipe, config)) continue;
    candidates.push_back(recipe.name());
    RESHARD_ASSIGN(const bool all, KnowsRankNames(recipe, config, source));
    if (all) fits.push_back(&recipe);
  }
  if (fits.size() == 1) return ChosenRecipe{*fits[0], "it alone knows all names"};
  return std::unexpected(Error{
      .kind = ErrorKind::kMapping,
      .file = source.root(),
      .found = config.architectures().empty()
                   ? "no config.json says what model this is"
                   : fmt::format("{} recipes for {} know all names", fits.size(),
                                 config.architectures()[0]),
      .expected = candidates.empty() ? std::string("a config.json, from --assets-from, or --recipe")
                                     : fmt::format("one of {}", fmt::join(candidates, ", ")),
      .help = "say the flavor with --recipe, and give the model's config.json by --assets-from"});
}

// The only flavor that there is for the model with stages and shards.
Result<ChosenRecipe> OnlyFlavorFor(const ModelConfig& config) {
  std::vector<const Recipe*> fits;
  for (const Recipe& recipe : BuiltInRecipes())
    if (DealsOut(recipe, config)) fits.push_back(&recipe);
  if (fits.size() == 1) return ChosenRecipe{*fits[0], "the only one for the model"};
  std::vector<std::string> names;
  for (const Recipe* recipe : fits) names.emplace_back(recipe->flavor());
  return std::unexpected(
      Error{.kind = ErrorKind::kUsage,
            .found = "--to megatron does not say in which flavor",
            .expected = names.empty() ? "--recipe with a flavor: reshard recipe list"
                                      : fmt::format("--recipe {}", fmt::join(names, " or "))});
}

Result<ChosenRecipe> ChooseTo(const ConvertRequest& request, const Source& source,
                              const ModelConfig& config) {
  if (request.recipe != "auto")
    return ChooseRecipe(request.recipe, source.catalog(), config.architectures());
  if (request.to == Kind::kMegatron) return OnlyFlavorFor(config);
  RESHARD_ASSIGN(Recipe identity, LoadRecipe("identity"));
  return ChosenRecipe{std::move(identity), "hub names, as no --recipe says otherwise"};
}

Result<ChosenRecipe> ChooseFrom(const std::string& name, const Source& source,
                                const ModelConfig& config) {
  if (name == "auto" && source.kind() == "megatron") return TellByRankNames(source, config);
  return ChooseRecipe(name, source.catalog(), config.architectures());
}

Sizes Environment(const LayoutRequest& layout) {
  return {{"tp", std::max<int64_t>(layout.tp, 1)},
          {"pp", std::max<int64_t>(layout.pp, 1)},
          {"vpp", std::max<int64_t>(layout.vpp, 1)},
          {"ep", std::max<int64_t>(layout.ep, 1)}};
}

bool IsPart(const std::string& only) { return only == "vit" || only == "audio" || only == "llm"; }

// Leaves a part of the model alone in the mapping, whose tensors have hub names; the rest is dropped
// by name. Which tensors are a part's is the recipe's to say.
Result<> KeepOnly(const std::string& only, const BoundRecipe* recipe, Mapping* mapping) {
  if (only.empty()) return {};
  const bool part = IsPart(only);
  RESHARD_ASSIGN(const Regex regex, Regex::Compile(only));
  std::vector<NamedView> kept;
  for (NamedView& tensor : mapping->tensors) {
    bool keep = recipe && part && recipe->PartOf(tensor.name) == only;
    if (!part) {
      RESHARD_ASSIGN(keep, regex.Search(tensor.name));
    }
    if (keep)
      kept.push_back(std::move(tensor));
    else
      mapping->dropped_parts.push_back(
          {tensor.name, std::move(tensor.view), fmt::format("--only {}", only)});
  }
  if (kept.empty() && !mapping->tensors.empty())
    return std::unexpected(Error{
        .kind = ErrorKind::kMapping,
        .found = fmt::format("--only {} keeps none of {} tensors", only, mapping->tensors.size()),
        .expected = part ? fmt::format("a recipe that knows a part '{}' of the model", only)
                         : "an expression that is found in some hub names",
        .help = "reshard inspect shows the names; reshard recipe list, what flavors there are"});
  mapping->tensors = std::move(kept);
  return {};
}

// The sizes of a request, where a list of layers gives the number of stages.
LayoutRequest WithStages(LayoutRequest layout) {
  for (const auto& [part, rows] : layout.part_layers) {
    layout.pp = std::max<int64_t>(layout.pp, std::ssize(rows[0]));
    layout.vpp = std::max<int64_t>(layout.vpp, std::ssize(rows));
  }
  return layout;
}

// The form of hub tensors whose shapes leave it open. Where the hub's layout is only passed through,
// one serves as well as another.
Result<std::string> FormOf(const ConvertRequest& request, const Flavors& flavors) {
  std::vector<std::string> names;
  for (const auto* flavor : {&flavors.to, &flavors.from})
    if (*flavor) std::ranges::copy((*flavor)->recipe.form_names(), std::back_inserter(names));
  const bool passed_through = flavors.from && flavors.to;
  if (request.hub_form.empty() && passed_through && !names.empty()) return names[0];
  if (request.hub_form.empty() || std::ranges::find(names, request.hub_form) != names.end())
    return request.hub_form;
  return std::unexpected(
      Error{.kind = ErrorKind::kUsage,
            .found = fmt::format("recipe {} knows no form '{}' of hub tensors", flavors.name(),
                                 request.hub_form),
            .expected = names.empty() ? std::string("no --hub-form: it knows one form of each")
                                      : fmt::format("{}", fmt::join(names, " or "))});
}

}  // namespace

std::string Flavors::name() const {
  if (from && to && from->recipe.name() != to->recipe.name())
    return from->recipe.name() + " -> " + to->recipe.name();
  return from ? from->recipe.name() : to ? to->recipe.name() : "identity";
}

std::string Flavors::why() const {
  if (from && to && from->why != to->why) return from->why + "; " + to->why;
  return from ? from->why : to ? to->why : "hub names on both sides";
}

std::string Flavors::text() const {
  return (from ? from->recipe.text() : "") + (to ? to->recipe.text() : "");
}

Result<Flavors> ChooseFlavors(const ConvertRequest& request, const Source& source,
                              const ModelConfig& config) {
  Flavors flavors;
  if (request.to == Kind::kHf) {
    // Only the source has a flavor, by either name.
    const std::string& name = request.recipe == "auto" ? request.from_recipe : request.recipe;
    if (request.from_recipe != "auto" && request.from_recipe != name)
      return std::unexpected(
          Error{.kind = ErrorKind::kUsage,
                .found = fmt::format("--recipe {} and --from-recipe {}", name, request.from_recipe),
                .expected = "one of them with --to hf: only the source has a flavor"});
    RESHARD_ASSIGN(flavors.from, ChooseFrom(name, source, config));
    return flavors;
  }
  const bool ranks_on_both = source.kind() == "megatron" && request.to == Kind::kMegatron;
  if (ranks_on_both && request.recipe == "auto" && request.from_recipe == "auto") {
    RESHARD_ASSIGN(flavors.from, TellByRankNames(source, config));
    flavors.to = flavors.from;
    return flavors;
  }
  RESHARD_ASSIGN(flavors.to, ChooseTo(request, source, config));
  if (source.kind() == "hf" && request.from_recipe == "auto") return flavors;
  if (!ranks_on_both || request.from_recipe != "auto") {
    RESHARD_ASSIGN(flavors.from, ChooseFrom(request.from_recipe, source, config));
    return flavors;
  }
  // The same flavor, if it knows the names; its error for one that no flavor knows tells most.
  RESHARD_ASSIGN(const bool same, KnowsRankNames(flavors.to->recipe, config, source));
  auto other = same ? std::nullopt : std::optional(TellByRankNames(source, config));
  flavors.from = other && *other ? **std::move(other) : *flavors.to;
  return flavors;
}

Result<TargetTensors> MapTensors(const ConvertRequest& request, const Source& source,
                                 const Flavors& flavors, const ModelConfig& config,
                                 const ModelConfig& stored_config,
                                 const std::vector<Regex>& ignore, const CastRules& casts,
                                 const HubStyle& style) {
  RESHARD_ASSIGN(const std::string form, FormOf(request, flavors));
  TargetTensors target;
  Mapping& mapping = target.mapping;
  RESHARD_ASSIGN(mapping, SourceTensors(source.catalog(), ignore));
  if (request.dequantize) RESHARD_TRY(Dequantize(stored_config, &mapping));
  // What the request leaves out by expression, no recipe promises.
  const bool whole = request.ignore.empty() && (request.only.empty() || IsPart(request.only));
  // With a recipe that knows no ranks each rank's tensor is one of its own.
  const bool megatron_source =
      source.kind() == "megatron" && flavors.from && flavors.from->recipe.deals_out();
  // Nothing but the layout changes, so the hub is passed by, and padding stays.
  const bool same = megatron_source && request.to == Kind::kMegatron && flavors.to &&
                    flavors.from->recipe.name() == flavors.to->recipe.name() &&
                    request.vocab_padding.IsNone();
  std::optional<BoundRecipe> from, to;

  if (flavors.from) {
    RankedSource ranked;
    if (megatron_source) {
      RESHARD_ASSIGN(ranked, SortByRank(source, mapping.tensors, request.from_layout,
                                        flavors.from->recipe));
      mapping.tensors.clear();
    }
    RESHARD_ASSIGN(from, BoundRecipe::Bind(flavors.from->recipe, config,
                                           Environment(ranked.layout)));
    RESHARD_TRY(DropUnreadable(source, ignore, *from, false, &mapping));
    if (megatron_source) {
      RESHARD_TRY(InferParts(*from, request.from_layout, &ranked));
      RESHARD_TRY(from->CheckRefusals(ranked.layout));
      RESHARD_ASSIGN(const Layout layout, ResolveLayout(ranked.layout, LayersOf(ranked.layout)));
      RESHARD_TRY(Assemble(*from, layout, ranked.tensors, &mapping));
      if (whole) RESHARD_TRY(CheckComplete(*from, mapping.tensors));
    }
    if (!same)
      RESHARD_TRY(from->ToHub(&mapping, request.to == Kind::kHf ? style : HubStyle{.form = form}));
    if (!same && whole) RESHARD_TRY(CheckHubComplete(*from, mapping.tensors));
  }
  if (!flavors.to) {
    RESHARD_TRY(KeepOnly(request.only, from ? &*from : nullptr, &mapping));
    RESHARD_TRY(ApplyCasts(casts, &mapping));
    return target;
  }
  const LayoutRequest layout = WithStages(request.layout);
  RESHARD_ASSIGN(to, BoundRecipe::Bind(flavors.to->recipe, config, Environment(layout)));
  if (!from) RESHARD_TRY(DropUnreadable(source, ignore, *to, true, &mapping));
  RESHARD_TRY(to->CheckRefusals(layout));
  if (same) {
    RESHARD_TRY(Resplit(*from, *to, &mapping));
  } else {
    if (whole && !to->recipe().deals_out()) RESHARD_TRY(CheckHubComplete(*to, mapping.tensors));
    RESHARD_TRY(KeepOnly(request.only, &*to, &mapping));
    RESHARD_TRY(to->FromHub(&mapping, {.rows = request.vocab_padding.rows,
                                       .multiple = request.vocab_padding.multiple,
                                       .last_row = request.vocab_padding.last_row},
                            form, request.keep_unknown));
  }
  if (whole) RESHARD_TRY(CheckComplete(*to, mapping.tensors));
  RESHARD_TRY(ApplyCasts(casts, &mapping));
  if (request.to != Kind::kMegatron) return target;
  const auto layers = CountLayers(*to, mapping.tensors);
  RESHARD_ASSIGN(target.layout, ResolveLayout(layout, layers));
  RESHARD_TRY(CheckUsesStages(target.layout, layout, layers));
  RESHARD_ASSIGN(target.ranks, Partition(*to, target.layout, mapping.tensors));
  return target;
}

}  // namespace reshard
