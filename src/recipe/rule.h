#ifndef RESHARD_RECIPE_RULE_H_
#define RESHARD_RECIPE_RULE_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "recipe/expression.h"
#include "recipe/fusion.h"
#include "recipe/pattern.h"
#include "reshard/dtype.h"
#include "reshard/error.h"

namespace reshard {

/// Which pipeline stages hold a tensor, counted in the list of one part of the model ("llm", "vit",
/// "audio"): all; the first or the last with layers of the part; the very first or last, layers or
/// not; the layer's own.
struct Stage {
  enum class Place : uint8_t { kEvery, kFirst, kLast, kStart, kEnd, kLayer };
  Place place = Place::kEvery;
  std::string part;   ///< empty for kEvery: it is cut as the whole model is
  bool said = false;  ///< by the recipe, rather than left to the default
};

/// A capture of the here side that is computed from one of the hub side: by a table of the config
/// (`table[from]`), or by an offset (`from + offset`).
struct IndexMap {
  std::string from;
  std::string table;  ///< dotted path; empty where there is an offset
  std::optional<Expression> offset;
};

/// By the capture here.
using IndexMaps = std::map<std::string, IndexMap, std::less<>>;

/// Which layers have what a rule takes: a condition on `layer`, what {layer} stands for (here, where
/// both sides have it).
struct LayerCondition {
  Expression holds;
  size_t scope = 0;  ///< whose sizes it sees
};

/// One of the forms that a hub tensor may have, as the recipe calls it.
struct Form {
  std::string name;
  Fusion fusion;
};

/// One correspondence between hub tensors and tensors here. One side is `parts` (several tensors,
/// or one), the other the whole that they make.
struct Rule {
  enum class Kind : uint8_t {
    kMove,  ///< one side becomes the other
    kCopy,  ///< the here side is one more copy of what another rule moves, or zeros
    kTie,   ///< the hub side repeats another hub tensor (`here` holds that one's hub name)
    kDrop,  ///< names are left out: those here, or the hub's on the way here
  };
  Kind kind = Kind::kMove;
  std::vector<Pattern> hub;
  std::vector<Pattern> here;
  Fusion fusion;            ///< of the first form, where there are several
  std::vector<Form> forms;  ///< all that the one hub tensor may have; none where it has but one
  bool parts_here = false;
  std::string tp;       ///< axis that tensor parallelism cuts; empty: every rank has all of it
  std::string ep;       ///< capture or axis that expert parallelism deals out; empty: none
  bool uneven = false;  ///< the first ranks may have one more of the axis than the last
  std::string pad;      ///< axis that may have rows of padding behind its size
  Stage stage;
  IndexMaps index;
  std::optional<DType> zeros;  ///< kCopy: the here side is zeros of this type, for each hub tensor
  std::optional<Expression> when;
  std::vector<LayerCondition> where;  ///< all must hold; none: in every layer
  bool otherwise = false;             ///< only names that no rule without it takes
  bool optional = false;              ///< a model may lack what it takes: in all of its layers
  bool restore = false;  ///< kDrop: the hub's model needs it; the way back takes it from elsewhere
  size_t table = 0;  ///< rules of one table of the file, by a choice in its names, have one number
  std::string note;  ///< the warning of a rule, the reason of a drop
  size_t scope = 0;  ///< whose sizes it sees

  const std::vector<Pattern>& parts() const { return parts_here ? here : hub; }
  const std::vector<Pattern>& whole() const { return parts_here ? hub : here; }
  /// The axes of here tensor number `member`.
  const Axes& here_axes(size_t member) const;
  /// The axes of hub tensor number `member`, in its first form.
  const Axes& hub_axes(size_t member) const;

  /// The map of the form that is called so; of the first where none is.
  const Fusion& FusionOf(std::string_view form) const;

  /// The map that fits a hub tensor of this shape; of several the one of the form called `wanted`.
  /// Errors are of kind kMapping: none fits, or several do and none of them is wanted.
  Result<const Fusion*> FusionFor(const Shape& shape, const Sizes& sizes,
                                  std::string_view wanted) const;

 private:
  const Axes& PartAxes(size_t member) const;
};

/// What a recipe does not do, though a model or a layout asks for it, or a tensor of that name is
/// there.
struct Refusal {
  std::optional<Expression> when;
  std::vector<Pattern> hub;  ///< names of tensors; where there are none, `when` decides
  std::string why;
  size_t scope = 0;
};

/// Where the names of a group of rules are looked up.
struct Scope {
  std::vector<std::string> roots;  ///< objects of the config, the first that exists counts
  std::vector<std::pair<std::string, Expression>> sizes;   ///< in the order of the file
  std::vector<std::pair<std::string, Expression>> layers;  ///< of parts of the model
  /// What ranks' files say of how the model was trained, and what it must be.
  std::vector<std::pair<std::string, Expression>> settings;

  bool Declares(std::string_view size) const {
    return std::ranges::find(sizes, size, &std::pair<std::string, Expression>::first) !=
           sizes.end();
  }
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_RULE_H_
