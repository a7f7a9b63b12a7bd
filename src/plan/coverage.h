#ifndef RESHARD_PLAN_COVERAGE_H_
#define RESHARD_PLAN_COVERAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "reshard/catalog.h"
#include "view/region.h"

namespace reshard {

/// Keeps account of which elements of one tensor are taken, and how often, told as regions. Exact,
/// and as costly as the regions are many, however large the tensor is.
class Coverage {
 public:
  explicit Coverage(Shape shape) : shape_(std::move(shape)) {}

  /// `region` lies within the shape, and takes none of its elements twice: what Lower gives.
  void Add(const Region& region);

  bool empty() const { return box_count_ == 0 && strided_.empty(); }

  /// Elements taken, each as often as it is.
  __int128 taken() const { return taken_; }

  /// Takes all that `other` takes, `times` times.
  void Add(const Coverage& other, size_t times);

  /// An element that is taken another number of times than `times`.
  struct Fault {
    Shape element;
    size_t taken = 0;  ///< `times` where the pattern is too intricate to tell
  };

  /// Nothing where every element is taken exactly `times` times, at least once.
  std::optional<Fault> FindFault(size_t times) const;

 private:
  std::vector<Region> Regions() const;

  Shape shape_;
  std::vector<int64_t> boxes_;  // start and extent of each region that is a box
  size_t box_count_ = 0;
  std::vector<Region> strided_;  // the others
  __int128 taken_ = 0;
};

/// True where `region` takes the element at these coordinates.
bool Takes(const Region& region, std::span<const int64_t> element);

}  // namespace reshard

#endif  // RESHARD_PLAN_COVERAGE_H_
