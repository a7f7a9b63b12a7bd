#include "recipe/completeness.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "base/try.h"
#include "recipe/index_text.h"

namespace reshard {
namespace {

Error Missing(std::string tensor, std::string found, std::string expected) {
  return Error{.kind = ErrorKind::kMapping,
               .tensor = std::move(tensor),
               .found = std::move(found),
               .expected = std::move(expected),
               .help =
                   "is a file of the source missing, or does the recipe not fit the model? A "
                   "rule for what some models lack says optional = true"};
}

using Numbers = std::set<int64_t>;

std::string Numbered(const Pattern& pattern, Captures captures, const std::string& capture,
                     int64_t number) {
  captures[capture] = fmt::to_string(number);
  return pattern.Fill(captures);
}

// The layers that tensors of one rule are of.
struct Layers {
  Numbers numbers{};
  const Pattern* pattern = nullptr;
  std::string capture{};
  Captures example{};
};
using LayersByRule = std::map<const Rule*, Layers>;

// A table of the config says which layers have what such a rule makes.
bool HasTable(const Rule& rule) {
  const auto index = rule.index.find("layer");
  return index != rule.index.end() && !index->second.table.empty();
}

// Where a layer lacks what others have, a rule must hold there that holds in none of those: dense
// layers among those with experts.
Result<> CheckLayers(const LayersByRule& rules, int64_t count) {
  for (const auto& [rule, layers] : rules) {
    if (rule->optional || HasTable(*rule) || std::ssize(layers.numbers) == count) continue;
    const auto stands_in = [&](int64_t layer) {
      return std::ranges::any_of(rules, [&](const auto& other) {
        return other.second.numbers.contains(layer) &&
               std::ranges::none_of(
                   layers.numbers, [&](int64_t own) { return other.second.numbers.contains(own); });
      });
    };
    for (int64_t layer = 0; layer < count; ++layer)
      if (!layers.numbers.contains(layer) && !stands_in(layer))
        return std::unexpected(Missing(
            Numbered(*layers.pattern, layers.example, layers.capture, layer),
            fmt::format("it is not there, but that of layer {} is", *layers.numbers.begin()),
            fmt::format("all of {} layers", count)));
  }
  return {};
}

// On one stage that it does not share with a layer.
bool StandsAlone(const Rule& rule) {
  return rule.stage.place != Stage::Place::kEvery && rule.stage.place != Stage::Place::kLayer;
}

class Completeness {
 public:
  Completeness(const BoundRecipe& recipe, const std::vector<NamedView>& tensors)
      : recipe_(recipe), tensors_(tensors) {}

  Result<> Run() {
    for (const NamedView& tensor : tensors_) {
      const auto match = recipe_.FindHere(tensor.name);
      if (!match) continue;
      found_.insert(match->rule);
      RESHARD_TRY(CountLayer(*match, tensor.name));
      RESHARD_TRY(CountExpert(*match, tensor.name));
    }
    for (const auto& [rule, experts] : experts_) RESHARD_TRY(CheckExperts(*rule, experts));
    for (const auto& [part, rules] : layers_) RESHARD_TRY(CheckLayers(rules, counts_.at(part)));
    return CheckPromises();
  }

 private:
  // By the other captures: the numbers, and an example.
  using Experts = std::map<std::string, std::pair<Numbers, Captures>>;

  Result<> CountLayer(const BoundRecipe::Match& match, const std::string& name) {
    const Rule& rule = *match.rule;
    if (rule.stage.place != Stage::Place::kLayer) return {};
    const auto layer = ParseIndex(match.captures.at("layer"));
    const auto known = recipe_.layers().find(rule.stage.part);
    const bool is_known = known != recipe_.layers().end();
    int64_t& count = counts_[rule.stage.part];
    if (is_known) count = known->second;
    if (!layer || (is_known && *layer >= count))
      return std::unexpected(
          Missing(name, "the model has no such layer",
                  is_known ? fmt::format("layers 0 to {}", count - 1) : "a number from 0 on"));
    count = std::max(count, *layer + 1);
    Layers& layers = layers_[rule.stage.part][&rule];
    layers.numbers.insert(*layer);
    layers.pattern = &rule.here[match.member];
    layers.capture = "layer";
    layers.example = match.captures;
    return {};
  }

  Result<> CountExpert(const BoundRecipe::Match& match, const std::string& name) {
    const Rule& rule = *match.rule;
    if (rule.ep.empty() || !match.captures.contains(rule.ep)) return {};
    const auto expert = ParseIndex(match.captures.at(rule.ep));
    if (!expert) return std::unexpected(Missing(name, "it is of no expert", "a number from 0 on"));
    std::string others;
    for (const auto& [capture, value] : match.captures)
      if (capture != rule.ep) others += value + "\n";
    auto& [numbers, example] = experts_[&rule][others];
    numbers.insert(*expert);
    example = match.captures;
    return {};
  }

  Result<> CheckExperts(const Rule& rule, const Experts& experts) const {
    const auto known = recipe_.sizes(rule).find(rule.ep);
    const bool is_known = known != recipe_.sizes(rule).end();
    int64_t count = is_known ? known->second : 0;
    for (const auto& [others, found] : experts) count = std::max(count, *found.first.rbegin() + 1);
    for (const auto& [others, found] : experts) {
      const auto& [numbers, example] = found;
      if (is_known && *numbers.rbegin() >= known->second)
        return std::unexpected(Missing(Numbered(rule.here[0], example, rule.ep, *numbers.rbegin()),
                                       "the model has no such expert",
                                       fmt::format("experts 0 to {}", known->second - 1)));
      if (std::ssize(numbers) == count) continue;
      int64_t lacks = 0;
      while (numbers.contains(lacks)) ++lacks;
      return std::unexpected(
          Missing(Numbered(rule.here[0], example, rule.ep, lacks),
                  fmt::format("it is not there, but {} others are", numbers.size()),
                  fmt::format("{} experts in each layer", count)));
    }
    return {};
  }

  // What stands on one stage is named alone: it is there or it is forgotten. Of a choice of names
  // one is enough.
  Result<> CheckPromises() const {
    std::set<size_t> kept;  // tables of the recipe
    for (const Rule* rule : found_) kept.insert(rule->table);
    for (const Rule* rule : recipe_.rules()) {
      const bool promised = rule->kind == Rule::Kind::kMove && !rule->optional &&
                            !rule->otherwise && rule->here[0].CaptureNames().empty() &&
                            StandsAlone(*rule) && layers_.contains(rule->stage.part);
      if (promised && !kept.contains(rule->table))
        return std::unexpected(Missing(rule->here[0].text(), "it is not there",
                                       fmt::format("it, as '{}' of the hub", rule->hub[0].text())));
    }
    return {};
  }

  const BoundRecipe& recipe_;
  const std::vector<NamedView>& tensors_;
  std::set<const Rule*> found_;
  std::map<const Rule*, Experts> experts_;
  std::map<std::string, LayersByRule> layers_;  // by part
  std::map<std::string, int64_t> counts_;       // of layers, by part
};

}  // namespace

Result<> CheckComplete(const BoundRecipe& recipe, const std::vector<NamedView>& tensors) {
  return Completeness(recipe, tensors).Run();
}

namespace {

// Which of a rule's captures counts layers in the hub's names.
std::string LayerCapture(const Rule& rule) {
  const auto index = rule.index.find("layer");
  return index == rule.index.end() ? "layer" : index->second.from;
}

// The layers of a recipe that deals nothing out, where [layers] says how many there are: then it
// promises all of them, and what stands in none.
std::optional<int64_t> PromisedLayers(const BoundRecipe& recipe) {
  if (recipe.recipe().deals_out() || recipe.layers().size() != 1) return std::nullopt;
  return recipe.layers().begin()->second;
}

Result<> CheckHubPromises(const BoundRecipe& recipe, const std::set<size_t>& kept) {
  for (const Rule* rule : recipe.rules())
    if (rule->kind == Rule::Kind::kMove && !rule->optional && !rule->otherwise &&
        rule->hub[0].CaptureNames().empty() && !kept.contains(rule->table))
      return std::unexpected(Missing(rule->hub[0].text(), "it is not there",
                                     fmt::format("it, as '{}' here", rule->here[0].text())));
  return {};
}

}  // namespace

Result<> CheckHubComplete(const BoundRecipe& recipe, const std::vector<NamedView>& tensors) {
  const std::optional<int64_t> promised = PromisedLayers(recipe);
  std::map<std::string, LayersByRule> groups;  // by what stands before the number
  std::map<std::string, int64_t> counts;
  std::set<size_t> kept;  // tables of the recipe
  for (const NamedView& tensor : tensors) {
    const auto match = recipe.FindHub(recipe.Canonical(tensor.name));
    if (!match) continue;
    const Rule& rule = *match->rule;
    kept.insert(rule.table);
    const std::string capture = LayerCapture(rule);
    const auto at = match->captures.find(capture);
    if (rule.kind != Rule::Kind::kMove || at == match->captures.end() || HasTable(rule) ||
        (rule.stage.place != Stage::Place::kLayer && !promised))
      continue;
    const auto layer = ParseIndex(at->second);
    if (!layer) continue;
    if (promised && rule.index.empty() && *layer >= *promised)
      return std::unexpected(Missing(tensor.name, "the model has no such layer",
                                     fmt::format("layers 0 to {}", *promised - 1)));
    const Pattern& pattern = rule.hub[match->member];
    const std::string group = pattern.text().substr(0, pattern.text().find("{" + capture + "}"));
    Layers& layers = groups[group][&rule];
    layers.numbers.insert(*layer);
    layers.pattern = &pattern;
    layers.capture = capture;
    layers.example = match->captures;
    counts[group] = std::max({counts[group], *layer + 1, promised.value_or(0)});
  }
  for (const auto& [group, rules] : groups) RESHARD_TRY(CheckLayers(rules, counts[group]));
  return promised ? CheckHubPromises(recipe, kept) : Result<>();
}

Result<> CheckUsesLayout(const BoundRecipe& recipe, const Layout& layout) {
  bool cuts = layout.ranks == 1, deals = layout.ep == 1, stages = layout.pp * layout.vpp == 1;
  for (const Rule* rule : recipe.rules()) {
    cuts |= !rule->tp.empty();
    deals |= !rule->ep.empty();
    stages |= rule->stage.place == Stage::Place::kLayer;
  }
  const auto fault = [&](const char* what, int64_t size) {
    return std::unexpected(
        Error{.kind = ErrorKind::kMapping,
              .found = fmt::format("{} is {}, but recipe '{}' has no rule with '{}' for this model",
                                   what, size, recipe.recipe().name(), what),
              .expected = fmt::format("{} 1", what),
              .help = "every rank along it would hold the same"});
  };
  if (!cuts) return fault("tp", layout.ranks);
  if (!deals) return fault("ep", layout.ep);
  if (!stages) return fault("stage", layout.pp * layout.vpp);
  return {};
}

namespace {

using Place = std::tuple<int64_t, int64_t, int64_t>;  // tp, pp, ep

std::set<Place> RanksWith(const std::vector<RankTensor>& tensors, const std::string& name) {
  std::set<Place> ranks;
  for (const RankTensor& tensor : tensors)
    if (tensor.name == name) ranks.emplace(tensor.tp, tensor.pp, tensor.ep);
  return ranks;
}

// Whether every rank of the rule's stage has one of two tensors: what the rule makes, or the one
// that it is tied to.
Result<> CheckOneOf(const Rule& rule, const std::string& original, const Layout& layout,
                    const std::vector<RankTensor>& tensors) {
  const std::string& name = rule.here[0].text();
  const auto list = layout.stages.find(rule.stage.part);
  const auto originals = RanksWith(tensors, original), copies = RanksWith(tensors, name);
  if (list == layout.stages.end() || (originals.empty() && copies.empty())) return {};
  const auto entry = list->second.EntryOf(rule.stage.place);
  for (int64_t stage = 0; stage < layout.pp * layout.vpp; ++stage) {
    if (!entry || list->second.At(stage) != *entry) continue;
    for (int64_t tp = 0; tp < layout.ranks; ++tp)
      for (int64_t ep = 0; ep < layout.ep; ++ep) {
        if (!layout.Exists(tp, ep)) continue;
        const Place place{tp, stage % layout.pp, ep};
        const bool has = copies.contains(place);
        // With several stages a copy may stand beside the original, as its flavor has it.
        if (originals.contains(place) != has || (has && layout.pp > 1)) continue;
        return std::unexpected(Error{
            .kind = ErrorKind::kMapping,
            .tensor = name,
            .found =
                fmt::format("tp {}, pp {}, ep {} would hold {} it {} '{}'", tp, stage % layout.pp,
                            ep, has ? "both" : "neither", has ? "and" : "nor", original),
            .expected = "one of the two, which are tied",
            .help = "look at the [[copy]] of the recipe and its condition"});
      }
  }
  return {};
}

}  // namespace

Result<> CheckTied(const BoundRecipe& recipe, const Layout& layout,
                   const std::vector<RankTensor>& tensors) {
  for (const Rule* tie : recipe.rules()) {
    if (tie->kind != Rule::Kind::kTie || !tie->here[0].CaptureNames().empty()) continue;
    const auto kept = recipe.FindHub(tie->here[0].text());
    if (!kept || kept->rule->kind != Rule::Kind::kMove) continue;
    for (const Rule& rule : recipe.recipe().rules())
      if (rule.kind == Rule::Kind::kMove && rule.hub.size() == 1 &&
          rule.hub[0].text() == tie->hub[0].text() && StandsAlone(rule))
        RESHARD_TRY(CheckOneOf(rule, kept->rule->here[0].text(), layout, tensors));
  }
  return {};
}

}  // namespace reshard
