#ifndef RESHARD_RECIPE_BOUND_RECIPE_H_
#define RESHARD_RECIPE_BOUND_RECIPE_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "recipe/mapping.h"
#include "recipe/model_config.h"
#include "recipe/recipe.h"
#include "recipe/regex.h"
#include "reshard/catalog.h"
#include "reshard/layout.h"

namespace reshard {

/// The tensors of a catalog, each whole under its own name; what an `ignore` finds is dropped.
Result<Mapping> SourceTensors(const Catalog& catalog, const std::vector<Regex>& ignore);

/// How hub tensors are spelt and formed where a recipe knows several ways.
struct HubStyle {
  std::set<std::string> names;          ///< of a tensor's spellings the one that is in it counts
  std::map<std::string, Shape> shapes;  ///< a tensor named here has the form that fits its shape
  std::string form;                     ///< what counts where no shape tells; empty: the first
};

/// A recipe with the sizes of one model: maps lists of tensors, either way. Immutable; safe to use
/// from several threads. The recipe and the config must outlive it.
class BoundRecipe {
 public:
  /// `environment` holds what conditions may ask for besides the config: tp, pp, vpp, ep. Errors
  /// are of kind kMapping: a size that cannot be computed, two rules for one name whose conditions
  /// both hold.
  static Result<BoundRecipe> Bind(const Recipe& recipe, const ModelConfig& config,
                                  Sizes environment);

  struct Match {
    const Rule* rule = nullptr;
    size_t member = 0;  ///< which of the rule's names on that side
    Captures captures;
  };
  /// The rule that takes a name, in the recipe's own spelling. One with an `index` takes names whose
  /// number leads somewhere, and others only where no rule does.
  std::optional<Match> FindHere(std::string_view name) const { return Find(name, false); }
  std::optional<Match> FindHub(std::string_view name) const { return Find(name, true); }

  /// Whether a layer has what the rule takes, as its `where` and its `index` say. `number` is what
  /// stands for the layer in names of that side. Errors are of kind kMapping: a condition that
  /// cannot be computed.
  Result<bool> IsIn(const Rule& rule, int64_t number, bool hub) const;

  /// The part of the model that a hub tensor, in any spelling, belongs to: "llm", "vit"; empty
  /// where no rule says.
  std::string PartOf(const std::string& hub) const;

  /// An error of kind kMapping where the recipe refuses the model or this layout, or knows nothing
  /// of a part that the layout speaks of. Conditions may ask for the sizes of parts, as in vit_tp,
  /// besides what Bind was given.
  Result<> CheckRefusals(const LayoutRequest& layout) const;

  /// An error of kind kMapping where what the ranks' files say of how the model was trained is not
  /// what the recipe and config.json make of it, which names both. `said` is as Source::hints has it;
  /// what it does not say, or config.json does not, is passed over.
  Result<> CheckSettings(const std::map<std::string, int64_t>& said) const;

  /// The recipe's own spelling of a name of one side that may be in another one.
  std::string Canonical(const std::string& name, bool hub = true) const;

  /// The rules whose conditions hold for the model.
  const std::vector<const Rule*>& rules() const { return active_; }

  /// What is known before any tensor is seen.
  const Sizes& sizes(const Rule& rule) const { return sizes_[rule.scope]; }

  /// The sizes of one of the recipe's scopes that the config gives.
  const Sizes& scope_sizes(size_t scope) const { return sizes_[scope]; }

  /// The rule's name that is most like this one.
  std::string Nearest(std::string_view name, bool hub) const;

  /// How many layers the config says that parts of the model have.
  const std::map<std::string, int64_t>& layers() const { return layers_; }

  const Recipe& recipe() const { return *recipe_; }

  /// Rows of padding behind what a tensor has.
  struct Padding {
    int64_t rows = 0;  ///< with these, as was said; 0: not said
    int64_t multiple = 0;
    bool last_row = false;  ///< repeat the last row; otherwise zeros
    int64_t most = INT64_MAX;  ///< on the way to the hub: fewer than that are taken for padding
  };

  /// Replaces mapping->tensors, in this flavor's names, by the hub's; adds checks and what is
  /// dropped. Errors are of kind kMapping: a name without a rule
  /// (naming the nearest), a tensor that a rule needs and is not there, two names that become one,
  /// a shape that does not fit, more rows than are padding.
  Result<> ToHub(Mapping* mapping, const HubStyle& style = {}) const {
    return ToHub(mapping, style, Padding());
  }
  Result<> ToHub(Mapping* mapping, const HubStyle& style, const Padding& padding) const;

  /// The inverse: replaces mapping->tensors, in hub names, by this flavor's. `form`: what hub tensors are whose sizes leave it open; empty: that is an error. With
  /// `keep_unknown` a tensor without a rule keeps its name and is no error.
  Result<> FromHub(Mapping* mapping, const Padding& padding, const std::string& form = {},
                   bool keep_unknown = false) const;

 private:
  class Translation;
  Result<> CheckPart(const std::string& part, std::string_view what) const;
  std::optional<Match> Find(std::string_view name, bool hub) const;
  std::optional<int64_t> LookUp(size_t scope, std::string_view name) const;
  const std::vector<int64_t>* LookUpList(size_t scope, std::string_view name) const;
  Result<std::optional<int64_t>> Evaluate(const Expression& expression, size_t scope,
                                          std::optional<int64_t> layer = std::nullopt) const;
  std::optional<Captures> Cross(const Rule& rule, const Captures& from, bool to_hub) const;
  std::optional<int64_t> CrossIndex(const Rule& rule, const IndexMap& map, int64_t value,
                                    bool to_hub) const;
  Error NoRule(std::string_view name, bool hub) const;
  std::string Spelled(const std::string& hub, const std::set<std::string>& spelling) const;

  const Recipe* recipe_ = nullptr;
  const ModelConfig* config_ = nullptr;
  Sizes environment_;
  std::vector<Sizes> sizes_;  // by scope
  std::map<std::string, int64_t> layers_;
  std::vector<const Rule*> active_;  // those whose condition holds, `otherwise` last
};

/// Takes whole tensors of a flavor to the same flavor under other conditions (another number of
/// stages): copies that `from` has become checks, those that `to` wants are made. Everything else
/// stays as it is, padding included. Errors are of kind kMapping.
Result<> Resplit(const BoundRecipe& from, const BoundRecipe& to, Mapping* mapping);

}  // namespace reshard

#endif  // RESHARD_RECIPE_BOUND_RECIPE_H_
