#ifndef RESHARD_CHECKPOINTS_TORCH_SAVE_TENSORS_H_
#define RESHARD_CHECKPOINTS_TORCH_SAVE_TENSORS_H_

#include <cstdint>
#include <map>
#include <string>

#include "formats/torch_save/archive.h"
#include "formats/torch_save/tensor_entry.h"
#include "reshard/source.h"
#include "view/catalog_builder.h"

namespace reshard {

/// The layout of a strided tensor in a torch.save zip or file, whose first byte is byte `base` of
/// file number `file`.
ChunkLayout LayoutOf(const torch_save::TensorEntry& entry, uint32_t file, uint64_t base);

/// The tensors of whole torch.save files: shared by the kinds that have such files. Each tensor is
/// one chunk, whose layout is known from the start.
class TorchSaveTensors {
 public:
  /// Adds a tensor of file number `file`, under a name that may differ from its own there.
  void AddTensor(std::string name, const torch_save::TensorEntry& tensor, uint32_t file,
                 CatalogBuilder* builder);

  /// Adds all that `archive`, decoded from file number `file`, holds.
  void Add(const torch_save::Archive& archive, uint32_t file, CatalogBuilder* builder);

  /// The layout of a tensor, or null where it came from elsewhere.
  const ChunkLayout* Find(const std::string& name) const;

 private:
  std::map<std::string, ChunkLayout> layouts_;
};

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_TORCH_SAVE_TENSORS_H_
