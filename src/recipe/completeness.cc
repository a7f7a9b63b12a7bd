#include "recipe/completeness.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "base/try.h"
#include "recipe/index_text.h"

namespace reshard {
namespace {

Error Missing(std::string tensor, std::string found, std::string expected) {
  return Error{.kind = ErrorKind::kMapping,
               .tensor = std::move(tensor),
               .found = std::move(found),
               .expected = std::move(expected),
               .help = "is a file of the source missing, or does the recipe or config.json not fit "
                       "the model? A rule for what some models lack says optional = true, one for "
                       "some of the layers says where"};
}

using Numbers = std::set<int64_t>;

constexpr int64_t kMaxLayers = 1 << 16;  // no model has as many

// The pattern's text with a number in place of one capture: a name, where it has no other.
std::string NameIn(const Pattern& pattern, const std::string& capture, int64_t number) {
  std::string text = pattern.text();
  const std::string braced = fmt::format("{{{}}}", capture);
  if (const size_t at = text.find(braced); at != std::string::npos)
    text.replace(at, braced.size(), fmt::to_string(number));
  return text;
}

std::string Numbered(const Pattern& pattern, Captures captures, const std::string& capture,
                     int64_t number) {
  captures[capture] = fmt::to_string(number);
  return pattern.Fill(captures);
}

// The values of all captures but one, as a key.
std::string Others(const Captures& captures, const std::string& but) {
  std::string others;
  for (const auto& [capture, value] : captures)
    if (capture != but) others.append(value).push_back('\n');
  return others;
}

// On one stage that it does not share with a layer.
bool StandsAlone(const Rule& rule) {
  return rule.stage.place != Stage::Place::kEvery && rule.stage.place != Stage::Place::kLayer;
}

// Whether every model has what the rule takes. One that takes what others leave can know that only
// where it says in which layers it does.
bool Promises(const Rule& rule) {
  return rule.kind == Rule::Kind::kMove && !rule.optional &&
         (!rule.otherwise || !rule.where.empty());
}

std::string WhereText(const Rule& rule) {
  std::string text;
  for (const LayerCondition& where : rule.where)
    text += fmt::format("{}'{}'", text.empty() ? "" : " and ", where.holds.text());
  return text;
}

// In which layers a tensor has been found: all that its name captures beside the layer is alike.
struct Series {
  Numbers layers{};
  const Pattern* pattern = nullptr;
  Captures example{};
};

// Layers that are counted together: those of a part, or in the hub those behind one prefix.
struct Group {
  int64_t count = 0;
  std::map<const Rule*, std::map<std::pair<size_t, std::string>, Series>> found{};
};

// Of one side's names, that they are all that the recipe says of a model.
class Completeness {
 public:
  Completeness(const BoundRecipe& recipe, const std::vector<NamedView>& tensors, bool hub)
      : recipe_(recipe), tensors_(tensors), hub_(hub), promised_(PromisedLayers(recipe)) {}

  Result<> Run() {
    for (const NamedView& tensor : tensors_) {
      const std::string name = hub_ ? recipe_.Canonical(tensor.name) : tensor.name;
      const auto match = hub_ ? recipe_.FindHub(name) : recipe_.FindHere(name);
      if (!match) continue;
      found_.insert(match->rule);
      if (match->rule->kind == Rule::Kind::kMove)
        made_.insert(Counterpart(*match->rule).text());
      RESHARD_TRY(CountLayer(*match, tensor.name));
      if (!hub_) RESHARD_TRY(CountExpert(*match, tensor.name));
    }
    for (const auto& [rule, experts] : experts_) RESHARD_TRY(CheckExperts(*rule, experts));
    for (const auto& [name, group] : groups_) RESHARD_TRY(CheckGroup(group));
    for (const Rule* rule : recipe_.rules()) RESHARD_TRY(CheckPromise(*rule));
    return {};
  }

 private:
  // By the other captures: the numbers, and an example.
  using Experts = std::map<std::string, std::pair<Numbers, Captures>>;

  // The layers of a recipe that deals nothing out, where [layers] says how many there are: then it
  // promises all of them, and what stands in none.
  static std::optional<int64_t> PromisedLayers(const BoundRecipe& recipe) {
    if (recipe.recipe().deals_out() || recipe.layers().size() != 1) return std::nullopt;
    return recipe.layers().begin()->second;
  }

  const Pattern& NameOf(const Rule& rule, size_t member = 0) const {
    return (hub_ ? rule.hub : rule.here)[member];
  }

  const Pattern& Counterpart(const Rule& rule) const {
    return (hub_ ? rule.here : rule.hub)[0];
  }

  // Which capture counts layers.
  std::string CaptureOf(const Rule& rule) const {
    const auto index = rule.index.find("layer");
    return hub_ && index != rule.index.end() ? index->second.from : "layer";
  }

  // Which layers the rule's are counted with; nothing where it is of none.
  std::optional<std::string> GroupOf(const Rule& rule, size_t member = 0) const {
    if (rule.kind != Rule::Kind::kMove && rule.kind != Rule::Kind::kCopy) return std::nullopt;
    const bool staged = rule.stage.place == Stage::Place::kLayer;
    if (!hub_) return staged ? std::optional(rule.stage.part) : std::nullopt;
    const std::string& text = NameOf(rule, member).text();
    const size_t number = text.find(fmt::format("{{{}}}", CaptureOf(rule)));
    if (number == std::string::npos || (!staged && !promised_)) return std::nullopt;
    return text.substr(0, number);
  }

  // How many layers there are, where that is known beforehand.
  std::optional<int64_t> LayersOf(const Rule& rule) const {
    if (hub_) return promised_;
    const auto known = recipe_.layers().find(rule.stage.part);
    return known == recipe_.layers().end() ? std::nullopt : std::optional(known->second);
  }

  Result<> CountLayer(const BoundRecipe::Match& match, const std::string& name) {
    const Rule& rule = *match.rule;
    const auto group_name = GroupOf(rule, match.member);
    if (!group_name) return {};
    const std::string capture = CaptureOf(rule);
    const auto layer = ParseIndex(match.captures.at(capture));
    const auto known = LayersOf(rule);
    // An index counts layers of its own in the hub.
    const bool limited = known && !(hub_ && !rule.index.empty());
    if (!layer || *layer >= (limited ? std::min(*known, kMaxLayers) : kMaxLayers))
      return std::unexpected(Missing(
          name, "the model has no such layer",
          limited ? fmt::format("layers 0 to {}", *known - 1) : "a number from 0 on, of a layer"));
    Group& group = groups_[*group_name];
    group.count = std::max({group.count, *layer + 1, known.value_or(0)});
    Series& series = group.found[&rule][{match.member, Others(match.captures, capture)}];
    series.layers.insert(*layer);
    series.pattern = &NameOf(rule, match.member);
    series.example = match.captures;
    return {};
  }

  Result<> CountExpert(const BoundRecipe::Match& match, const std::string& name) {
    const Rule& rule = *match.rule;
    if (rule.ep.empty() || !match.captures.contains(rule.ep)) return {};
    const auto expert = ParseIndex(match.captures.at(rule.ep));
    if (!expert) return std::unexpected(Missing(name, "it is of no expert", "a number from 0 on"));
    auto& [numbers, example] = experts_[&rule][Others(match.captures, rule.ep)];
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

  // Of each number below `count` whether it is one of a layer that the rule is of. A table of the
  // config may go further.
  Result<std::vector<bool>> ExpectedLayers(const Rule& rule, int64_t count) const {
    const auto index = rule.index.find("layer");
    const bool has_table = hub_ && index != rule.index.end() && !index->second.table.empty();
    std::vector<bool> layers;
    for (int64_t layer = 0; layer < kMaxLayers && (layer < count || has_table); ++layer) {
      RESHARD_ASSIGN(const bool in, recipe_.IsIn(rule, layer, hub_));
      if (layer >= count && !in) break;
      layers.push_back(in);
    }
    return layers;
  }

  // What one layer has, each has; where the rule says which, those and no others.
  Result<> CheckGroup(const Group& group) const {
    for (const auto& [rule, all] : group.found) {
      RESHARD_ASSIGN(const auto expected, ExpectedLayers(*rule, group.count));
      for (const auto& [key, series] : all) RESHARD_TRY(CheckSeries(*rule, series, expected));
    }
    return {};
  }

  Result<> CheckSeries(const Rule& rule, const Series& series,
                       const std::vector<bool>& expected) const {
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto layer = static_cast<int64_t>(i);
      if (series.layers.contains(layer) == expected[i]) continue;
      std::string name = Numbered(*series.pattern, series.example, CaptureOf(rule), layer);
      const std::string where = WhereText(rule);
      if (!expected[i])
        return std::unexpected(
            Missing(std::move(name), "the model has none in this layer",
                    where.empty() ? "a layer that its index leads to"
                                  : fmt::format("one in the layers where {}", where)));
      return std::unexpected(Missing(
          std::move(name),
          fmt::format("it is not there, but that of layer {} is", *series.layers.begin()),
          where.empty() ? fmt::format("all of {} layers", expected.size())
                        : fmt::format("all layers where {}", where)));
    }
    return {};
  }

  // What a rule promises is there: alone, or in its first layer. Of rules that make the same of
  // several names one is enough.
  Result<> CheckPromise(const Rule& rule) const {
    if (!Promises(rule) || found_.contains(&rule) || IsBias(rule)) return {};
    if (made_.contains(Counterpart(rule).text())) return {};
    if (hub_ ? !promised_ : !HasPart(rule)) return {};
    const Pattern& pattern = NameOf(rule);
    std::string name = pattern.text();
    if (const auto group_name = GroupOf(rule)) {
      const auto group = groups_.find(*group_name);
      const int64_t found = group == groups_.end() ? 0 : group->second.count;
      RESHARD_ASSIGN(const auto expected,
                     ExpectedLayers(rule, std::max(found, LayersOf(rule).value_or(0))));
      const auto first = std::ranges::find(expected, true);
      if (first == expected.end()) return {};
      name = NameIn(pattern, CaptureOf(rule), first - expected.begin());
    } else if (!pattern.CaptureNames().empty()) {
      return {};
    }
    return std::unexpected(
        Missing(name, "it is not there",
                fmt::format("it, as '{}' {}", Counterpart(rule).text(),
                            hub_ ? "here" : "of the hub")));
  }

  // Of a choice between a weight and its bias, `norm1.{weight|bias}`, the bias: some models have none.
  bool IsBias(const Rule& rule) const {
    constexpr std::string_view kBias = ".bias";
    const std::string& name = NameOf(rule).text();
    if (!name.ends_with(kBias)) return false;
    const std::string weight = name.substr(0, name.size() - kBias.size()) + ".weight";
    return std::ranges::any_of(recipe_.rules(), [&](const Rule* other) {
      return other->table == rule.table && NameOf(*other).text() == weight;
    });
  }

  // Whether the source has the part of the model that the rule is of, and it is on certain stages.
  bool HasPart(const Rule& rule) const {
    return rule.stage.place != Stage::Place::kEvery && groups_.contains(rule.stage.part);
  }

  const BoundRecipe& recipe_;
  const std::vector<NamedView>& tensors_;
  const bool hub_;
  const std::optional<int64_t> promised_;
  std::set<const Rule*> found_;  // that have taken a name
  std::set<std::string> made_;   // what those call it on the other side
  std::map<const Rule*, Experts> experts_;
  std::map<std::string, Group> groups_;
};

}  // namespace

Result<> CheckComplete(const BoundRecipe& recipe, const std::vector<NamedView>& tensors) {
  return Completeness(recipe, tensors, false).Run();
}

Result<> CheckHubComplete(const BoundRecipe& recipe, const std::vector<NamedView>& tensors) {
  return Completeness(recipe, tensors, true).Run();
}

Result<> CheckUsesLayout(const BoundRecipe& recipe, const Layout& layout) {
  int64_t shards = 1;
  bool deals = layout.ep == 1, stages = layout.pp * layout.vpp == 1;
  for (const Rule* rule : recipe.rules()) {
    shards = std::max(shards, layout.TpOf(*rule));
    deals |= !rule->ep.empty();
    stages |= rule->stage.place == Stage::Place::kLayer;
  }
  const auto fault = [&](std::string found, std::string expected) {
    return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                 .file = recipe.recipe().name(),
                                 .found = std::move(found),
                                 .expected = std::move(expected),
                                 .help = "every rank along it would hold the same"});
  };
  if (shards != layout.ranks)
    return fault(fmt::format("{} tensor parallel ranks, but the recipe has no rule with 'tp' that "
                             "cuts this model in more than {}",
                             layout.ranks, shards),
                 fmt::format("tensor parallel sizes up to {}", shards));
  if (!deals)
    return fault(fmt::format("ep is {}, but the recipe has no rule with 'ep' for this model",
                             layout.ep),
                 "ep 1");
  if (!stages)
    return fault(fmt::format("{} stages, but the recipe has no rule with layers on stages for this "
                             "model",
                             layout.pp * layout.vpp),
                 "pp 1 and vpp 1");
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
