#ifndef RESHARD_FORMATS_TORCH_SAVE_DICT_H_
#define RESHARD_FORMATS_TORCH_SAVE_DICT_H_

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/file_layout.h"

namespace reshard::torch_save {

struct Item;

/// A Python dict with text keys, in the order in which it is written.
struct Dict {
  std::vector<Item> items;
};

/// A key and what it stands for. A tensor is referred to, must outlive the item, and is known by
/// the key: the name in its TensorDecl is not looked at.
struct Item {
  std::string key;  ///< UTF-8
  std::variant<const TensorDecl*, Dict, int64_t, double, std::string> value;
};

/// A dict of tensors under their own names.
inline Dict DictOf(std::span<const TensorDecl> tensors) {
  Dict dict;
  dict.items.reserve(tensors.size());
  for (const TensorDecl& tensor : tensors) dict.items.push_back({tensor.name, &tensor});
  return dict;
}

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_DICT_H_
