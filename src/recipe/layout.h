#ifndef RESHARD_RECIPE_LAYOUT_H_
#define RESHARD_RECIPE_LAYOUT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "recipe/rule.h"
#include "reshard/layout.h"

namespace reshard {

/// The layers of one part of the model over pipeline stages. A stage is counted chunk * pp + p. A
/// shorter list repeats, as where a small vision tower stands on every stage.
class StageList {
 public:
  explicit StageList(std::vector<int64_t> layers);

  /// The entry of the list that a stage has.
  size_t At(int64_t stage) const { return static_cast<size_t>(stage) % layers_.size(); }

  size_t size() const { return layers_.size(); }
  size_t first() const { return first_; }  ///< the first entry with a layer
  size_t last() const { return last_; }

  /// The entry that holds what stands on one stage; nothing for kEvery and kLayer.
  std::optional<size_t> EntryOf(Stage::Place place) const;

  int64_t begin(size_t entry) const { return begins_[entry]; }  ///< its first layer, of the model
  int64_t count(size_t entry) const { return layers_[entry]; }
  int64_t total() const { return begins_.back() + layers_.back(); }

  /// The entry that has a layer of the model, which must be less than total().
  size_t Of(int64_t layer) const;

 private:
  std::vector<int64_t> layers_;
  std::vector<int64_t> begins_;
  size_t first_ = 0;
  size_t last_ = 0;
};

/// How a model is dealt out to ranks, all of it decided.
struct Layout {
  int64_t ranks = 1;  ///< tensor parallel ranks: the largest of the parts' sizes
  int64_t tp = 1;     ///< of what has no part of its own
  int64_t pp = 1;
  int64_t vpp = 1;
  int64_t ep = 1;
  int64_t etp = 1;
  std::map<std::string, int64_t> part_tp;
  std::map<std::string, StageList> stages;  ///< by part

  /// Whether some process has both ranks: within a stage Megatron numbers tensor ranks first, but
  /// for experts the ranks of `etp`, then those of `ep`.
  bool Exists(int64_t tp_rank, int64_t ep_rank) const;

  int64_t TpOf(const std::string& part) const {
    const auto at = part_tp.find(part);
    return at == part_tp.end() ? tp : at->second;
  }

  /// In how many shards tensor parallelism cuts the tensors of a rule.
  int64_t TpOf(const Rule& rule) const {
    if (rule.tp.empty()) return 1;
    return rule.ep.empty() ? TpOf(rule.stage.part) : etp;
  }
};

/// Decides what a request leaves open, for a model whose parts have so many layers: what has no
/// list is split evenly. Errors are of kind kMapping with the numbers: lists that do not sum to the
/// layers, layers that do not divide, sizes that do not fit each other.
Result<Layout> ResolveLayout(const LayoutRequest& request,
                             const std::map<std::string, int64_t>& layers);

/// Proves that some part is dealt out to all stages of a layout that a request resolves to: by a list
/// that long, or evenly for want of a list. Errors are of kind kMapping.
Result<> CheckUsesStages(const Layout& layout, const LayoutRequest& request,
                         const std::map<std::string, int64_t>& layers);

}  // namespace reshard

#endif  // RESHARD_RECIPE_LAYOUT_H_
