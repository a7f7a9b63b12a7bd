#include "api/flavors.h"

#include <algorithm>
#include <iterator>
#include <ranges>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "api/ranks.h"
#include "api/restored.h"
#include "api/unreadable.h"
#include "base/checked_math.h"
#include "base/try.h"
#include "checkpoints/megatron/rank_name.h"
#include "checkpoints/megatron/torch_dist.h"
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

// Names of the ranks' tensors that a recipe has no rule for, as a model has them on any of several
// stages.
struct Unknown {
  std::string recipe;
  std::string first{};
  size_t count = 0;
};

Result<Unknown> UnknownTo(const Recipe& recipe, const ModelConfig& config, const Source& source) {
  RESHARD_ASSIGN(const BoundRecipe bound, BoundRecipe::Bind(recipe, config, {{"pp", 2}}));
  Unknown unknown{recipe.name()};
  for (const Tensor& tensor : source.catalog().tensors()) {
    const auto name = megatron::ParseTensorName(tensor.name);
    if (name && bound.FindHere(name->key)) continue;
    if (unknown.count++ == 0) unknown.first = name ? name->key : std::string_view(tensor.name);
  }
  return unknown;
}

// "auto", and "auto/MODEL", which is the recipe for MODEL of whichever flavor knows the names.
constexpr std::string_view kAuto = "auto";

bool IsAuto(std::string_view name) { return name == kAuto || name.starts_with("auto/"); }

// What is behind the flavor in a recipe's name.
std::string_view ModelIn(std::string_view name) {
  const size_t slash = name.find('/');
  return slash == std::string_view::npos ? std::string_view() : name.substr(slash + 1);
}

// The flavors whose recipes know every name of the ranks' tensors: of recipes for the model that
// `name` says, else for that of config.json.
Result<ChosenRecipe> TellByRankNames(std::string_view name, const Source& source,
                                     const ModelConfig& config) {
  const std::string_view model = ModelIn(name);
  std::vector<const Recipe*> fits;
  std::vector<Unknown> candidates;
  for (const Recipe& recipe : BuiltInRecipes()) {
    if (model.empty() ? !DealsOut(recipe, config)
                      : !recipe.deals_out() || ModelIn(recipe.name()) != model)
      continue;
    RESHARD_ASSIGN(Unknown unknown, UnknownTo(recipe, config, source));
    if (unknown.count == 0) fits.push_back(&recipe);
    candidates.push_back(std::move(unknown));
  }
  if (fits.size() == 1) return ChosenRecipe{*fits[0], "it alone knows all names"};
  Error error{.kind = ErrorKind::kMapping,
              .file = source.root(),
              .found = model.empty() && config.architectures().empty()
                           ? "no config.json says what model this is"
                           : fmt::format("{} recipes for {} know all names", fits.size(),
                                         model.empty() ? config.architectures()[0] : model),
              .expected = "a config.json, from --assets-from, or --recipe",
              .help = "say the flavor with --recipe, and give the model's config.json by "
                      "--assets-from"};
  if (candidates.empty()) return std::unexpected(std::move(error));
  error.expected = fmt::format(
      "one of {}", fmt::join(candidates | std::views::transform(&Unknown::recipe), ", "));
  if (!fits.empty()) return std::unexpected(std::move(error));
  const Unknown& nearest = *std::ranges::min_element(candidates, {}, &Unknown::count);
  error.tensor = nearest.first;
  error.help = fmt::format(
      "{} comes nearest: it has no rule for {} of {} tensors, of which this is the first; reshard "
      "recipe show {} prints its rules",
      nearest.recipe, nearest.count, source.catalog().tensors().size(), nearest.recipe);
  return std::unexpected(std::move(error));
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
  return ChosenRecipe{HubNames(), "hub names, as no --recipe says otherwise"};
}

Result<ChosenRecipe> ChooseFrom(const std::string& name, const Source& source,
                                const ModelConfig& config) {
  if (IsAuto(name) && source.kind() == "megatron") return TellByRankNames(name, source, config);
  if (name != HubNames().name()) RESHARD_TRY(megatron::CheckIsNoTorchDist(source.root()));
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
      mapping->dropped_parts.push_back({tensor.name, std::move(tensor.view),
                                        fmt::format("--only {}", only), LeftOutBy::kOnly});
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

// What helps where tensors do not fit: a setting that they decide (its name in the recipe ends in
// '?') is another one in `args` than in config.json. Empty where none is.
std::string DoubtIn(const Source& source, const Recipe& recipe, const ModelConfig& config) {
  const auto said = source.hints();
  for (const Scope& scope : recipe.scopes())
    for (const auto& [name, expected] : scope.settings) {
      if (!name.ends_with('?') || config.file().empty()) continue;
      const std::string setting = name.substr(0, name.size() - 1);
      const auto at = said.find(setting);
      const auto value =
          expected.Evaluate([&](std::string_view path) { return config.Number(path); });
      if (at == said.end() || !value || !*value || **value == at->second) continue;
      return fmt::format(
          "the ranks' files say args.{} = {}, where '{}' of config.json is {}: set in config.json "
          "what the files say",
          setting, at->second, expected.text(), **value);
    }
  return {};
}

// Puts it into the error of a result, and into what checks say that fail later.
Result<> WithDoubt(Result<> result, const std::string& doubt, Mapping* mapping) {
  if (doubt.empty()) return result;
  if (!result) result.error().help = doubt;
  for (Check& check : mapping->checks)
    if (check.why.starts_with("another copy") && !check.why.ends_with(doubt))
      check.why += "; " + doubt;
  return result;
}

// How many rows behind the vocabulary of ranks are padding: Megatron makes it divide by a number for
// each tensor parallel rank. Later ranks may be fewer than those that it was made for.
BoundRecipe::Padding PaddingOf(const ConvertRequest& request, const Source& source,
                               const LayoutRequest& layout) {
  constexpr int64_t kUsualDivisor = 128;
  BoundRecipe::Padding padding;
  if (source.kind() != "megatron") return padding;
  if (request.to == Kind::kHf) padding.rows = request.vocab_padding.rows;
  const auto hints = source.hints();
  const auto hint = [&](const char* name) {
    const auto at = hints.find(name);
    return at == hints.end() ? int64_t{1} : at->second;
  };
  const int64_t divisor = std::max(kUsualDivisor, hint("make_vocab_size_divisible_by"));
  const int64_t ranks = std::max(layout.tp, hint("tensor_model_parallel_size"));
  padding.most = CheckedMul(divisor, ranks).value_or(INT64_MAX);
  return padding;
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

// What the recipes of both sides keep in its type, and what the hub's own names do.
CastRules WithKept(CastRules casts, const Flavors& flavors) {
  for (const Recipe* recipe : {&HubNames(), flavors.from ? &flavors.from->recipe : nullptr,
                               flavors.to ? &flavors.to->recipe : nullptr})
    if (recipe) std::ranges::copy(recipe->keep(), std::back_inserter(casts.keep));
  return casts;
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

bool Flavors::keep_names() const {
  const auto keeps = [](const ChosenRecipe& flavor) {
    return flavor.recipe.name() == HubNames().name();
  };
  return (!from || keeps(*from)) && (!to || keeps(*to));
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
  if (ranks_on_both && IsAuto(request.recipe) && request.from_recipe == kAuto) {
    RESHARD_ASSIGN(flavors.from, TellByRankNames(request.recipe, source, config));
    flavors.to = flavors.from;
    return flavors;
  }
  RESHARD_ASSIGN(flavors.to, ChooseTo(request, source, config));
  if (source.kind() == "hf" && request.from_recipe == "auto") return flavors;
  if (!ranks_on_both || request.from_recipe != "auto") {
    // Who asks for identity wants the names kept, not the hub's. A rank is no part of a name.
    const bool keeps_names = request.recipe == HubNames().name() &&
                             request.from_recipe == "auto" && source.kind() != "megatron";
    RESHARD_ASSIGN(flavors.from, ChooseFrom(keeps_names ? request.recipe : request.from_recipe,
                                            source, config));
    return flavors;
  }
  // The same flavor, if it knows the names; its error for one that no flavor knows tells most.
  RESHARD_ASSIGN(const Unknown unknown, UnknownTo(flavors.to->recipe, config, source));
  auto other = unknown.count == 0 ? std::nullopt : std::optional(TellByRankNames(kAuto, source, config));
  flavors.from = other && *other ? **std::move(other) : *flavors.to;
  return flavors;
}

Result<TargetTensors> MapTensors(const ConvertRequest& request, const Source& source,
                                 const Flavors& flavors, const ModelConfig& config,
                                 const ModelConfig& stored_config,
                                 const std::vector<Regex>& ignore, const CastRules& asked_casts,
                                 const HubStyle& style) {
  RESHARD_ASSIGN(const std::string form, FormOf(request, flavors));
  const CastRules casts = WithKept(asked_casts, flavors);
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
    RESHARD_ASSIGN(const auto not_held, RestoredNames(flavors.from->recipe, config));
    if (whole) target.not_held = not_held;
    std::vector<NamedView> restored = TakeRestored(not_held, &mapping);
    RankedSource ranked;
    std::string doubt;
    if (megatron_source) {
      RESHARD_ASSIGN(ranked, SortByRank(source, mapping.tensors, request.from_layout,
                                        flavors.from->recipe));
      mapping.tensors.clear();
    }
    RESHARD_ASSIGN(from, BoundRecipe::Bind(flavors.from->recipe, config,
                                           Environment(ranked.layout)));
    RESHARD_TRY(DropUnreadable(source, ignore, *from, false, &mapping));
    if (megatron_source) {
      RESHARD_TRY(from->CheckSettings(source.hints()));
      RESHARD_TRY(InferParts(*from, request.from_layout, &ranked));
      RESHARD_TRY(from->CheckRefusals(ranked.layout));
      RESHARD_ASSIGN(const Layout layout, ResolveLayout(ranked.layout, LayersOf(ranked.layout)));
      doubt = DoubtIn(source, flavors.from->recipe, config);
      RESHARD_TRY(WithDoubt(Assemble(*from, layout, ranked.tensors, &mapping), doubt, &mapping));
      if (whole) RESHARD_TRY(WithDoubt(CheckComplete(*from, mapping.tensors), doubt, &mapping));
    }
    if (!same)
      RESHARD_TRY(WithDoubt(
          from->ToHub(&mapping, request.to == Kind::kHf ? style : HubStyle{.form = form},
                      PaddingOf(request, source, ranked.layout)),
          doubt, &mapping));
    if (!same && whole) RESHARD_TRY(CheckHubComplete(*from, mapping.tensors));
    std::ranges::move(restored, std::back_inserter(mapping.tensors));
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
