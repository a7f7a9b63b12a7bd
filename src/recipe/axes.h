#ifndef RESHARD_RECIPE_AXES_H_
#define RESHARD_RECIPE_AXES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/error.h"
#include "view/view.h"

namespace reshard {

/// Known sizes by name: of axes, from the config or solved from shapes.
using Sizes = std::map<std::string, int64_t, std::less<>>;

/// What one axis of a tensor is: a named size, a number, or parts that stand side by side.
struct Axis {
  std::string name;           ///< empty for a number and for parts
  int64_t number = 0;         ///< the size, where it is one
  std::vector<Axis> parts{};  ///< `[r 1 1]`: what each part contributes
  bool operator==(const Axis&) const = default;
};

/// The axes of a tensor as text: dimensions separated by spaces; `(g d)` is one dimension made of
/// two axes, the first the slower; `[r 1 1]` is an axis of parts; `*` is all further dimensions,
/// none included, which must stand alone and last.
class Axes {
 public:
  /// Errors are of kind kUsage.
  static Result<Axes> Parse(std::string_view text);

  /// All axes of all dimensions, slowest first, without `*`.
  std::vector<Axis> Flat() const;

  bool rest() const { return rest_; }
  bool Has(std::string_view name) const;

  /// True where the axis is the first dimension, and all of it.
  bool Leads(std::string_view name) const;

  /// Adds what the shape says about sizes not yet known; an error (kMapping) where the shape and
  /// the known sizes contradict each other.
  Result<> Solve(const Shape& shape, Sizes* sizes) const;

  /// The view with one dimension an axis, and those of `*` behind them. All sizes must be known.
  Result<View> Open(const View& view, const Sizes& sizes) const;

  /// The inverse of Open: one dimension an axis becomes the tensor's own dimensions.
  Result<View> Close(const View& open) const;

  /// The part [start, start + length) of a named axis, in the tensor's own dimensions.
  Result<View> Cut(const View& view, const Sizes& sizes, std::string_view name, int64_t start,
                   int64_t length) const;

  /// Puts together what Cut took apart, in order. `sizes` may lack the axis, which each piece has
  /// in part.
  Result<View> Join(const std::vector<View>& pieces, Sizes sizes, std::string_view name) const;

  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::vector<std::vector<Axis>> dims_;
  bool rest_ = false;
};

/// The size of an axis, if it is known.
std::optional<int64_t> SizeOf(const Axis& axis, const Sizes& sizes);

}  // namespace reshard

#endif  // RESHARD_RECIPE_AXES_H_
