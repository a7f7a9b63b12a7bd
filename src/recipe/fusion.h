#ifndef RESHARD_RECIPE_FUSION_H_
#define RESHARD_RECIPE_FUSION_H_

#include <string>
#include <string_view>
#include <vector>

#include "recipe/axes.h"
#include "reshard/error.h"
#include "view/view.h"

namespace reshard {

/// How several tensors are one tensor, and the way back: "f *, f * -> ([1 1] f) *" says that two
/// tensors stand one after the other, "(g r d) *, (g d) *, (g d) * -> (g [r 1 1] d) *" that groups
/// of query, key and value alternate, "f h -> e f h" with e stacked that a tensor an expert becomes
/// one. Both ways are made of the same nodes, so one is the inverse of the other.
class Fusion {
 public:
  /// One of the tensors that are fused.
  struct Part {
    Axes axes;
    bool zero = false;  ///< written "zero AXES": not stored; all of it is zero

    // How its axes become the whole's: positions of its own axes in the whole's order, and which of
    // the whole's axes it has not (their size is 1).
    std::vector<size_t> order{};
    std::vector<size_t> absent{};
  };

  /// `stacked` names an axis of the whole that counts tensors of one part; empty where there is
  /// none. Errors are of kind kUsage.
  static Result<Fusion> Parse(const std::vector<std::string>& parts, std::string_view whole,
                              std::string_view stacked);

  const std::vector<Part>& parts() const { return parts_; }
  const Axes& whole() const { return whole_; }
  const std::string& stacked() const { return stacked_; }

  /// `tensors[e][j]` is part j at place e of the stacked axis (one e where there is none); parts
  /// that are zero are left out of the count. There are as many places as `sizes` says, where it
  /// does. Errors are of kind kMapping.
  Result<View> Fuse(const std::vector<std::vector<View>>& tensors, Sizes sizes) const;

  /// The inverse: `[e][j]` with every part, those that are to be zero included.
  Result<std::vector<std::vector<View>>> Split(const View& whole, Sizes sizes) const;

 private:
  Result<View> OpenPart(const Part& part, size_t index, const View& view, const Sizes& sizes) const;
  Axis AxisOfPart(const Axis& axis, size_t index) const;

  std::vector<Part> parts_;
  Axes whole_;
  std::vector<Axis> flat_;  // the whole's
  size_t join_ = SIZE_MAX;  // of flat_: the axis of parts
  size_t stack_ = SIZE_MAX;
  std::string stacked_;
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_FUSION_H_
