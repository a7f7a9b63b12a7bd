#ifndef RESHARD_RECIPE_RECIPE_TEST_SUPPORT_H_
#define RESHARD_RECIPE_RECIPE_TEST_SUPPORT_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "view/view.h"

namespace reshard {

/// A source element: tensor and row-major index. Zeros that a view makes are of tensor kFill.
using Element = std::pair<uint32_t, int64_t>;

/// What a view lowers to: the origin of each of its elements, in row-major order. `shapes` are
/// those of the sources.
std::vector<Element> Elements(const View& view, const std::vector<Shape>& shapes);

/// All elements of one source, in order.
std::vector<Element> AllElements(uint32_t source, const Shape& shape);

int64_t NumelOf(const Shape& shape);

/// The kind of the error; kInternal where there is none.
template <typename T>
ErrorKind KindOf(const Result<T>& result) {
  return result ? ErrorKind::kInternal : result.error().kind;
}

}  // namespace reshard

#endif  // RESHARD_RECIPE_RECIPE_TEST_SUPPORT_H_
