#include "api/ranks.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "checkpoints/megatron/rank_name.h"

namespace reshard {
namespace {

int64_t Hint(const Source& source, const std::string& name) {
  const auto hints = source.hints();
  const auto at = hints.find(name);
  return at == hints.end() ? 0 : at->second;
}

bool IsFirst(const Stage& stage) {
  return stage.place == Stage::Place::kFirst || stage.place == Stage::Place::kStart;
}

// Whether the directories' lone suffix counts pipeline stages: then some of them lack what only the
// first stage of a part holds.
bool LooksLikeStages(const BoundRecipe& recipe,
                     const std::map<uint32_t, std::set<std::string_view>>& keys) {
  for (const auto& [suffix, names] : keys)
    for (std::string_view name : names) {
      const auto match = recipe.FindHere(name);
      if (!match || !IsFirst(match->rule->stage)) continue;
      for (const auto& [other, theirs] : keys)
        if (!theirs.contains(name)) return true;
    }
  return false;
}

Error Open(std::string found, std::string candidates) {
  return Error{.kind = ErrorKind::kMapping,
               .found = std::move(found),
               .expected = std::move(candidates),
               .help = "say which with --from 'megatron:...' or --from-layout FILE.toml"};
}

// What was said of the source must be so.
Result<> CheckAsked(std::string_view size, int64_t asked, int64_t found) {
  if (asked == 0 || asked == found) return {};
  return std::unexpected(Error{.kind = ErrorKind::kMapping,
                               .found = fmt::format("the files are of {} {}", size, found),
                               .expected = fmt::format("{} {}, as was said of them", size, asked),
                               .help = "correct what is said of the source's layout, or leave it "
                                       "out: the files say it"});
}

// The tensor parallel size that was said of the parts which nothing was said of: that of the
// largest, as a small one may have one of its own.
Result<> CheckAskedTp(const LayoutRequest& asked, int64_t ranks,
                      const std::map<std::string, int64_t>& found) {
  int64_t largest = 0;
  for (const auto& [part, size] : found) {
    if (ranks % size != 0) return CheckAsked("tp", size, ranks);
    if (!asked.part_tp.contains(part)) largest = std::max(largest, size);
  }
  return CheckAsked("tp", asked.tp, largest > 0 ? largest : ranks);
}

}  // namespace

Result<RankedSource> SortByRank(const Source& source, const std::vector<NamedView>& tensors,
                                const LayoutRequest& asked, const Recipe& recipe) {
  struct Place {
    megatron::RankName rank;
    megatron::TensorName name;
  };
  std::vector<Place> places;
  uint32_t tp = 0, first = 0, second = 0, chunks = 0;
  int suffixes = 0;
  std::map<uint32_t, std::set<std::string_view>> keys;  // by the first suffix
  for (const NamedView& tensor : tensors) {
    const auto name = megatron::ParseTensorName(tensor.name);
    const auto rank = name ? megatron::ParseRankName(name->rank) : std::nullopt;
    const auto chunk = name ? megatron::ParseChunk(name->chunk) : std::nullopt;
    if (!rank || !chunk)
      return std::unexpected(Open(fmt::format("'{}' is no tensor of a rank", tensor.name),
                                  "mp_rank_TT/model/KEY"));
    tp = std::max(tp, rank->tp + 1);
    first = std::max(first, rank->first.value_or(0) + 1);
    second = std::max(second, rank->second.value_or(0) + 1);
    chunks = std::max(chunks, *chunk + 1);
    suffixes = rank->suffixes();
    keys[rank->first.value_or(0)].insert(name->key);
    places.push_back({*rank, *name});
  }

  bool lone_is_pp = true;
  if (suffixes == 1) {
    const int64_t pp = asked.pp > 0 ? asked.pp : Hint(source, "pipeline_model_parallel_size");
    const int64_t ep = asked.ep > 0 ? asked.ep : Hint(source, "expert_model_parallel_size");
    if (pp > 1 || ep > 1) {
      lone_is_pp = pp > 1;
    } else {
      const ModelConfig none;
      RESHARD_ASSIGN(const BoundRecipe bound, BoundRecipe::Bind(recipe, none, {}));
      lone_is_pp = LooksLikeStages(bound, keys);
    }
  }
  RankedSource ranked;
  ranked.layout.tp = tp;
  ranked.layout.vpp = chunks;
  ranked.layout.pp = suffixes == 2 || lone_is_pp ? first : 1;
  ranked.layout.ep = suffixes == 2 ? second : lone_is_pp ? 1 : first;
  RESHARD_TRY(CheckAsked("vpp", asked.vpp, ranked.layout.vpp));
  RESHARD_TRY(CheckAsked("pp", asked.pp, ranked.layout.pp));
  RESHARD_TRY(CheckAsked("ep", asked.ep, ranked.layout.ep));
  ranked.layout.etp = asked.etp > 0 ? asked.etp : Hint(source, "expert_tensor_parallel_size");
  ranked.layout.part_tp = asked.part_tp;
  ranked.layout.part_layers = asked.part_layers;
  for (size_t i = 0; i < places.size(); ++i) {
    const auto& [rank, name] = places[i];
    const int64_t one = rank.first.value_or(0), two = rank.second.value_or(0);
    ranked.tensors.push_back({.tp = rank.tp,
                              .pp = suffixes == 2 || lone_is_pp ? one : 0,
                              .ep = suffixes == 2 ? two : lone_is_pp ? 0 : one,
                              .chunk = *megatron::ParseChunk(name.chunk),
                              .name = std::string(name.key),
                              .view = tensors[i].view});
  }
  return ranked;
}

Result<> InferParts(const BoundRecipe& recipe, const LayoutRequest& asked, RankedSource* source) {
  LayoutRequest& layout = source->layout;
  const int64_t ranks = layout.tp, stages = layout.pp * layout.vpp;
  struct Part {
    std::vector<std::set<std::string>> layers;
    std::set<int64_t> firsts;        // stages that hold what only the first of the list holds
    std::set<int64_t> sizes;         // of tensor parallelism, as shapes and config tell
    bool cut = false;
  };
  std::map<std::string, Part> parts;
  std::set<int64_t> expert_sizes;
  bool experts_cut = false;
  for (const RankTensor& tensor : source->tensors) {
    const auto match = recipe.FindHere(tensor.name);
    if (!match) continue;
    const Rule& rule = *match->rule;
    Part& part = parts[rule.stage.part];
    part.layers.resize(static_cast<size_t>(stages));
    const int64_t stage = tensor.chunk * layout.pp + tensor.pp;
    if (rule.stage.place == Stage::Place::kLayer)
      part.layers[static_cast<size_t>(stage)].insert(match->captures.at("layer"));
    if (IsFirst(rule.stage)) part.firsts.insert(stage);
    if (rule.tp.empty() || tensor.tp != 0 || tensor.ep != 0) continue;
    const Sizes& known = recipe.sizes(rule);
    const auto whole = known.find(rule.tp);
    (rule.ep.empty() ? part.cut : experts_cut) = true;
    if (whole == known.end() || rule.tp == rule.pad) continue;
    Sizes sizes = known;
    sizes.erase(rule.tp);
    if (!rule.ep.empty()) sizes.erase(rule.ep);
    if (!rule.here_axes(match->member).Solve(tensor.view.shape(), &sizes)) continue;
    const int64_t own = sizes.at(rule.tp);
    if (rule.uneven) {
      // The first rank has the share that is rounded up.
      for (int64_t size = 1; size <= ranks; ++size)
        if (ranks % size == 0 && (whole->second + size - 1) / size == own)
          (rule.ep.empty() ? part.sizes : expert_sizes).insert(size);
    } else if (own > 0 && whole->second % own == 0) {
      (rule.ep.empty() ? part.sizes : expert_sizes).insert(whole->second / own);
    }
  }
  for (auto& [name, part] : parts) {
    if (name.empty()) continue;
    if (!layout.part_layers.contains(name)) {
      // A shorter list stands on several stages, each with what only its first has.
      const auto repeats = std::max<int64_t>(std::ssize(part.firsts), 1);
      std::vector<int64_t> list;
      for (int64_t stage = 0; stage < stages / repeats; ++stage)
        list.push_back(std::ssize(part.layers[static_cast<size_t>(stage)]));
      LayerRows rows;
      if (repeats > 1 || std::ssize(list) != stages) {
        rows.push_back(list);
      } else {
        for (int64_t chunk = 0; chunk < layout.vpp; ++chunk)
          rows.emplace_back(list.begin() + chunk * layout.pp,
                            list.begin() + (chunk + 1) * layout.pp);
      }
      layout.part_layers[name] = std::move(rows);
    }
    if (const auto said = asked.part_tp.find(name); said != asked.part_tp.end()) {
      if (part.sizes.size() == 1)
        RESHARD_TRY(CheckAsked(name + "-tp", said->second, *part.sizes.begin()));
      continue;
    }
    if (!part.cut || ranks == 1) continue;
    if (part.sizes.size() != 1 && asked.tp > 0) part.sizes = {asked.tp};
    if (part.sizes.size() != 1)
      return std::unexpected(
          Open(fmt::format("the tensor parallel size of '{}' cannot be told from the shapes{}", name,
                           part.sizes.empty() ? " without the model's config.json" : ""),
               part.sizes.empty() ? fmt::format("{}-tp=1 to {}-tp={}", name, name, ranks)
                                  : fmt::format("{}-tp={}", name,
                                                fmt::join(part.sizes, fmt::format(" or {}-tp=",
                                                                                  name)))));
    layout.part_tp[name] = *part.sizes.begin();
  }
  if (layout.etp == 0 && experts_cut && expert_sizes.size() == 1)
    layout.etp = *expert_sizes.begin();
  RESHARD_TRY(CheckAskedTp(asked, ranks, layout.part_tp));
  if (asked.tp > 0) layout.tp = asked.tp;
  return {};
}

std::map<std::string, int64_t> LayersOf(const LayoutRequest& layout) {
  std::map<std::string, int64_t> layers;
  for (const auto& [part, rows] : layout.part_layers)
    for (const auto& row : rows)
      for (int64_t count : row) layers[part] += count;
  return layers;
}

}  // namespace reshard
