#ifndef RESHARD_FORMATS_TORCH_SAVE_FLATTEN_H_
#define RESHARD_FORMATS_TORCH_SAVE_FLATTEN_H_

#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "formats/pickle/pickle.h"
#include "reshard/error.h"

namespace reshard::torch_save {

/// One step from the root to a leaf: a dictionary's key as text, or an index into a list.
using PathPart = std::variant<std::string, int64_t>;
using Path = std::vector<PathPart>;

/// Is given the path of a leaf, its parts joined by '.', and its value.
using LeafVisitor =
    std::function<Result<>(const Path& path, std::string name, const pickle::Value& value)>;

/// Bounds on what flattening visits: a pickle may hold one value in many places, or in itself.
/// Exceeding one is an error of kind kSource.
struct FlattenLimits {
  size_t max_depth = 500;
  uint64_t max_paths = 10'000'000;              ///< leaves, and what holds leaves
  uint64_t max_scanned = 100'000'000;           ///< items of lists that are looked through
  uint64_t max_name_bytes = uint64_t{192} << 20;  ///< of all paths together
};

/// Visits the leaves of `root` in file order, as torch.distributed.checkpoint flattens a state dict
/// since torch 2.4 (_nested_dict.py, _traverse.py): mappings are always descended into, so that
/// empty ones vanish; a list only where it holds, itself or in lists within it, a mapping or a
/// tensor; all else is a leaf, tuples too. Mappings are dict, OrderedDict, Counter, defaultdict and
/// whatever else is filled as a dict is.
///
/// A root that is neither a mapping nor a list is one leaf with an empty path and name.
Result<> Flatten(const pickle::Value& root, const std::string& file, const LeafVisitor& visit,
                 const FlattenLimits& limits = {});

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_FLATTEN_H_
