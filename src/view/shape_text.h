#ifndef RESHARD_VIEW_SHAPE_TEXT_H_
#define RESHARD_VIEW_SHAPE_TEXT_H_

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <span>
#include <string>

namespace reshard {

/// "[2, 3]"; "[]" for no dimensions.
inline std::string ShapeText(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace reshard

#endif  // RESHARD_VIEW_SHAPE_TEXT_H_
