#include "recipe/partition.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/try.h"
#include "recipe/completeness.h"
#include "recipe/index_text.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

Error Fault(const std::string& tensor, std::string found, std::string expected,
            std::string help = {}) {
  return Error{.kind = ErrorKind::kMapping,
               .tensor = tensor,
               .found = std::move(found),
               .expected = std::move(expected),
               .help = std::move(help)};
}

Result<BoundRecipe::Match> Find(const BoundRecipe& recipe, const std::string& name) {
  auto match = recipe.FindHere(name);
  if (match && match->rule->kind != Rule::Kind::kDrop) return *std::move(match);
  return std::unexpected(
      Fault(name, fmt::format("recipe '{}' has no rule for this tensor", recipe.recipe().name()),
            "a tensor of the model", "reshard recipe show prints its rules"));
}

bool IsCapture(const Rule& rule, const std::string& name) {
  const auto names = rule.here[0].CaptureNames();
  return std::ranges::find(names, name) != names.end();
}

// What to do where a rule's axis does not divide.
std::string SmallerSize(const Rule& rule, const Layout& layout) {
  const std::string& part = rule.stage.part;
  return fmt::format("choose a smaller --{}{}",
                     !rule.ep.empty()                ? "etp"
                     : layout.part_tp.contains(part) ? fmt::format("{}-tp", part)
                                                     : "tp",
                     rule.pad == rule.tp ? ", or --pad-vocab-to a multiple of it" : "");
}

// The experts of each rule that deals names out: one more than the highest number.
using Counts = std::map<const Rule*, int64_t>;

Result<> CountUp(const BoundRecipe::Match& match, const std::string& name, Counts* counts) {
  const Rule& rule = *match.rule;
  if (rule.ep.empty() || !IsCapture(rule, rule.ep)) return {};
  const auto number = ParseIndex(match.captures.at(rule.ep));
  if (!number) return std::unexpected(Fault(name, "it is of no expert", "a number from 0 on"));
  (*counts)[&rule] = std::max((*counts)[&rule], *number + 1);
  return {};
}

// Entries of a part's list whose stages hold a tensor of the rule: one, or all.
Result<std::vector<size_t>> Entries(const BoundRecipe::Match& match, const StageList& list,
                                    const std::string& name) {
  if (const auto entry = list.EntryOf(match.rule->stage.place)) return std::vector{*entry};
  if (match.rule->stage.place != Stage::Place::kLayer) return std::vector<size_t>{};
  const auto layer = ParseIndex(match.captures.at("layer"));
  if (!layer || *layer >= list.total())
    return std::unexpected(
        Fault(name, "no stage has this layer", fmt::format("one of {} layers", list.total())));
  return std::vector{list.Of(*layer)};
}

// Whether a rank on this stage holds a tensor of the rule.
bool IsHome(const Rule& rule, const StageList* list, int64_t stage) {
  const auto entry = list ? list->EntryOf(rule.stage.place) : std::nullopt;
  return !entry || list->At(stage) == *entry;
}

}  // namespace

std::map<std::string, int64_t> CountLayers(const BoundRecipe& recipe,
                                           const std::vector<NamedView>& tensors) {
  std::map<std::string, int64_t> layers;
  for (const NamedView& tensor : tensors) {
    const auto match = recipe.FindHere(tensor.name);
    if (!match || match->rule->stage.part.empty()) continue;
    int64_t& count = layers[match->rule->stage.part];
    if (match->rule->stage.place != Stage::Place::kLayer) continue;
    if (const auto layer = ParseIndex(match->captures.at("layer")))
      count = std::max(count, *layer + 1);
  }
  return layers;
}

Result<std::vector<RankTensor>> Partition(const BoundRecipe& recipe, const Layout& layout,
                                          const std::vector<NamedView>& tensors) {
  RESHARD_TRY(CheckUsesLayout(recipe, layout));
  std::vector<BoundRecipe::Match> matches;
  Counts experts;
  for (const NamedView& tensor : tensors) {
    RESHARD_ASSIGN(auto match, Find(recipe, tensor.name));
    RESHARD_TRY(CountUp(match, tensor.name, &experts));
    matches.push_back(std::move(match));
  }
  std::vector<RankTensor> out;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const NamedView& tensor = tensors[i];
    const BoundRecipe::Match& match = matches[i];
    const Rule& rule = *match.rule;
    Captures captures = match.captures;

    // Which expert ranks have it.
    int64_t first_ep = 0, last_ep = layout.ep - 1;
    int64_t share = 0;
    if (const auto count = experts.find(&rule); count != experts.end()) {
      if (count->second % layout.ep != 0)
        return std::unexpected(Fault(tensor.name,
                                     fmt::format("{} experts over ep {}", count->second, layout.ep),
                                     "a number that divides", "choose another --ep"));
      share = count->second / layout.ep;
      const int64_t expert = *ParseIndex(captures.at(rule.ep));
      first_ep = last_ep = expert / share;
      captures[rule.ep] = fmt::to_string(expert % share);
    }

    // Its shards.
    const Axes& axes = rule.here_axes(match.member);
    Sizes sizes = recipe.sizes(rule);
    const int64_t tp = layout.TpOf(rule);
    const bool ep_axis = !rule.ep.empty() && share == 0 && layout.ep > 1;
    std::vector<std::vector<View>> shards(ep_axis ? layout.ep : 1);
    if (tp > 1 || ep_axis) {
      if (!rule.pad.empty()) sizes.erase(rule.pad);  // It may be longer than the config says.
      RESHARD_TRY(axes.Solve(tensor.view.shape(), &sizes));
    }
    for (size_t e = 0; e < shards.size(); ++e) {
      View own = tensor.view;
      Sizes own_sizes = sizes;
      if (ep_axis) {
        const int64_t size = sizes[rule.ep];
        if (size % layout.ep != 0)
          return std::unexpected(Fault(tensor.name,
                                       fmt::format("{} experts over ep {}", size, layout.ep),
                                       "a number that divides", "choose another --ep"));
        RESHARD_ASSIGN(
            own, axes.Cut(tensor.view, sizes, rule.ep, static_cast<int64_t>(e) * (size / layout.ep),
                          size / layout.ep));
        own_sizes[rule.ep] = size / layout.ep;
      }
      if (tp == 1) {
        shards[e].push_back(own);
        continue;
      }
      const int64_t size = sizes[rule.tp];
      if (!rule.uneven && size % tp != 0)
        return std::unexpected(Fault(
            tensor.name,
            fmt::format("axis '{}' of '{}' is {}, to be cut in {}", rule.tp, axes.text(), size, tp),
            "a number that divides", SmallerSize(rule, layout)));
      for (int64_t t = 0, start = 0; t < tp; ++t) {
        const int64_t length = size / tp + (t < size % tp);
        RESHARD_ASSIGN(View shard, axes.Cut(own, own_sizes, rule.tp, start, length));
        shards[e].push_back(std::move(shard));
        start += length;
      }
    }

    // The stages that hold it, each with its own number for the layer.
    const auto list = layout.stages.find(rule.stage.part);
    std::vector<size_t> entries;
    if (list != layout.stages.end()) {
      RESHARD_ASSIGN(entries, Entries(match, list->second, tensor.name));
      if (rule.stage.place == Stage::Place::kLayer)
        captures["layer"] = fmt::to_string(*ParseIndex(match.captures.at("layer")) -
                                           list->second.begin(entries[0]));
    }
    const std::string name = rule.here[match.member].Fill(captures);
    std::set<std::pair<int64_t, int64_t>> placed;  // which part of it some rank has already
    for (int64_t stage = 0; stage < layout.pp * layout.vpp; ++stage) {
      if (!entries.empty() && list->second.At(stage) != entries[0]) continue;
      for (int64_t e = first_ep; e <= last_ep; ++e)
        for (int64_t t = 0; t < layout.ranks; ++t) {
          if (!layout.Exists(t, e)) continue;
          const auto& row = shards[ep_axis ? e : 0];
          const bool first = placed.emplace(ep_axis ? e : 0, t % tp).second;
          const View& shard = row[static_cast<size_t>(t % tp)];
          out.push_back(
              {.tp = t,
               .pp = stage % layout.pp,
               .ep = e,
               .chunk = stage / layout.pp,
               .name = name,
               .view = first ? shard : View::Repeat(shard)});
        }
    }
    if (placed.empty()) return std::unexpected(Fault(tensor.name, "no stage holds it", "at least one"));
  }
  RESHARD_TRY(CheckTied(recipe, layout, out));
  return out;
}

Result<> Assemble(const BoundRecipe& recipe, const Layout& layout,
                  const std::vector<RankTensor>& tensors, Mapping* mapping) {
  RESHARD_TRY(CheckUsesLayout(recipe, layout));
  std::vector<const RankTensor*> kept;
  std::vector<BoundRecipe::Match> matches;
  Counts experts;
  for (const RankTensor& tensor : tensors) {
    if (const auto dropped = recipe.FindHere(tensor.name);
        dropped && dropped->rule->kind == Rule::Kind::kDrop) {
      mapping->dropped_parts.push_back({tensor.name, tensor.view, dropped->rule->note});
      continue;
    }
    RESHARD_ASSIGN(auto match, Find(recipe, tensor.name));
    RESHARD_TRY(CountUp(match, tensor.name, &experts));
    matches.push_back(std::move(match));
    kept.push_back(&tensor);
  }
  // The shards of a whole tensor by (expert rank, shard), where it is first found.
  struct Whole {
    const BoundRecipe::Match* match;
    bool at_home = false;  // on the stage that the rule says, or one of them
    std::map<std::pair<int64_t, int64_t>, const RankTensor*> shards;
  };
  std::map<std::string, Whole> wholes;
  const auto place = [](const RankTensor& tensor) {
    return fmt::format("tp {}, pp {}, ep {}, chunk {}", tensor.tp, tensor.pp, tensor.ep,
                       tensor.chunk);
  };
  for (size_t i = 0; i < kept.size(); ++i) {
    const RankTensor& tensor = *kept[i];
    const Rule& rule = *matches[i].rule;
    Captures captures = matches[i].captures;
    const auto list = layout.stages.find(rule.stage.part);
    if (rule.stage.place == Stage::Place::kLayer) {
      const auto layer = ParseIndex(captures.at("layer"));
      const size_t entry =
          list == layout.stages.end() ? 0 : list->second.At(tensor.chunk * layout.pp + tensor.pp);
      if (!layer || list == layout.stages.end() || *layer >= list->second.count(entry))
        return std::unexpected(
            Fault(tensor.name,
                  fmt::format("a layer of {} that the layout does not have there", place(tensor)),
                  "the layers that --from-layout says"));
      captures["layer"] = fmt::to_string(*layer + list->second.begin(entry));
    }
    const bool by_name = experts.contains(&rule);
    if (by_name)
      captures[rule.ep] =
          fmt::to_string(*ParseIndex(captures.at(rule.ep)) + tensor.ep * experts.at(&rule));
    const int64_t tp = layout.TpOf(rule);
    const bool ep_axis = !rule.ep.empty() && !by_name;
    Whole& whole = wholes[rule.here[matches[i].member].Fill(captures)];
    if (!whole.match) whole.match = &matches[i];
    whole.at_home |= IsHome(rule, list == layout.stages.end() ? nullptr : &list->second,
                            tensor.chunk * layout.pp + tensor.pp);
    const std::pair shard{ep_axis ? tensor.ep : 0, tensor.tp % tp};
    const auto [at, fresh] = whole.shards.try_emplace(shard, &tensor);
    if (fresh) continue;
    const RankTensor& first = *at->second;
    if (first.view.shape() != tensor.view.shape() || first.view.dtype() != tensor.view.dtype())
      return std::unexpected(Fault(tensor.name,
                                   fmt::format("{} {} at {}", DTypeName(tensor.view.dtype()),
                                               ShapeText(tensor.view.shape()), place(tensor)),
                                   fmt::format("{} {} as at {}", DTypeName(first.view.dtype()),
                                               ShapeText(first.view.shape()), place(first))));
    mapping->checks.push_back({fmt::format("{} ({})", tensor.name, place(tensor)), tensor.view,
                               first.view,
                               fmt::format("a replica of the one at {}", place(first))});
  }
  for (auto& [name, whole] : wholes) {
    const Rule& rule = *whole.match->rule;
    const Axes& axes = rule.here_axes(whole.match->member);
    const int64_t tp = layout.TpOf(rule);
    const bool ep_axis = !rule.ep.empty() && !experts.contains(&rule);
    if (!whole.at_home) {
      const RankTensor& tensor = *whole.shards.begin()->second;
      return std::unexpected(
          Fault(name, fmt::format("it is at {}, and not where the recipe has it", place(tensor)),
                fmt::format("the stage that '{}' says", rule.hub[0].text())));
    }
    std::vector<View> blocks;
    for (int64_t e = 0; e < (ep_axis ? layout.ep : 1); ++e) {
      std::vector<View> pieces;
      for (int64_t t = 0; t < tp; ++t) {
        const auto at = whole.shards.find({e, t});
        if (at == whole.shards.end())
          return std::unexpected(Fault(
              name,
              fmt::format("shard {} of {} is in no rank's file; others are "
                          "'{}' there",
                          t, tp, whole.shards.begin()->second->name),
              "the files of all ranks", "copy the checkpoint again, with the files of every rank"));
        pieces.push_back(at->second->view);
      }
      if (pieces.size() == 1) {
        blocks.push_back(pieces[0]);
        continue;
      }
      Sizes sizes = recipe.sizes(rule);
      if (!rule.pad.empty()) sizes.erase(rule.pad);
      if (ep_axis && layout.ep > 1) sizes.erase(rule.ep);
      auto joined = axes.Join(pieces, std::move(sizes), rule.tp);
      if (!joined) {
        joined.error().tensor = name;
        return std::unexpected(std::move(joined).error());
      }
      blocks.push_back(*std::move(joined));
    }
    View view = blocks[0];
    if (blocks.size() > 1) {
      RESHARD_ASSIGN(view, axes.Join(blocks, recipe.sizes(rule), rule.ep));
    }
    mapping->tensors.push_back({name, std::move(view)});
  }
  return {};
}

}  // namespace reshard
