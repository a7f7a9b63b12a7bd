#ifndef RESHARD_BASE_NEAREST_H_
#define RESHARD_BASE_NEAREST_H_

#include <string>
#include <string_view>
#include <vector>

namespace reshard {

/// The one of `known` that `name` was probably meant to be; empty where none is near.
std::string Nearest(std::string_view name, const std::vector<std::string>& known);

}  // namespace reshard

#endif  // RESHARD_BASE_NEAREST_H_
