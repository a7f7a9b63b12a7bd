#include "checkpoints/torch_save_tensors.h"

namespace reshard {

ChunkLayout LayoutOf(const torch_save::TensorEntry& entry, uint32_t file, uint64_t base) {
  std::optional<StoredCrc> crc;
  if (entry.crc != 0) crc = {base + entry.data_offset, entry.storage_bytes, entry.crc};
  return {.file = file,
          .offset = base + entry.data_offset +
                    static_cast<uint64_t>(entry.storage_offset * ItemSize(entry.dtype)),
          .strides = entry.strides,
          .swap_bytes = entry.big_endian && ItemSize(entry.dtype) > 1,
          .conjugate = entry.conjugate,
          .negate = entry.negate,
          .crc = crc};
}

void TorchSaveTensors::AddTensor(std::string name, const torch_save::TensorEntry& tensor,
                                 uint32_t file, CatalogBuilder* builder) {
  builder->AddTensor(name, tensor.dtype, tensor.shape);
  builder->AddWhole(file, tensor.data_offset, tensor.storage_bytes);
  layouts_.emplace(std::move(name), LayoutOf(tensor, file, 0));
}

void TorchSaveTensors::Add(const torch_save::Archive& archive, uint32_t file,
                           CatalogBuilder* builder) {
  for (const torch_save::TensorLeaf& leaf : archive.tensors)
    AddTensor(leaf.name, leaf.tensor, file, builder);
  for (const torch_save::UnreadableLeaf& leaf : archive.unreadable)
    builder->AddUnreadable({.name = leaf.name, .what = leaf.what, .file = file});
  for (const torch_save::ObjectLeaf& leaf : archive.objects)
    builder->AddObject({.name = leaf.name, .summary = leaf.summary});
}

const ChunkLayout* TorchSaveTensors::Find(const std::string& name) const {
  const auto at = layouts_.find(name);
  return at == layouts_.end() ? nullptr : &at->second;
}

}  // namespace reshard
