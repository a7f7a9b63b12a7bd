#ifndef RESHARD_FORMATS_DCP_METADATA_FOLDER_H_
#define RESHARD_FORMATS_DCP_METADATA_FOLDER_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/dcp/dcp_metadata.h"
#include "formats/dcp/name_table.h"
#include "formats/pickle/pickle.h"

namespace reshard::dcp {

/// The classes of a `.metadata` that come by the million, and those that they are made of.
enum class Class : uint32_t {
  kNone,
  kSize,        // torch.Size
  kProperties,  // TensorProperties
  kChunk,       // ChunkStorageMetadata
  kTensor,      // TensorStorageMetadata
  kIndex,       // MetadataIndex
  kStorage,     // _StorageInfo
};

/// The handle of a folded object: its class, and what that class needs.
struct Handle {
  Class type = Class::kNone;
  uint32_t rank = 0;   // kSize, kChunk; < 2^16
  uint32_t index = 0;  // into what the folder holds for the class

  uint64_t Pack() const { return uint64_t(type) << 48 | uint64_t{rank} << 32 | index; }
  static Handle Unpack(uint64_t bits) {
    return {static_cast<Class>(bits >> 48), static_cast<uint32_t>(bits >> 32 & 0xffff),
            static_cast<uint32_t>(bits)};
  }
};

/// Integers of the folder: coordinates or extents.
struct IntSpan {
  uint32_t index = 0;
  uint32_t rank = 0;
};

/// Turns the objects of a `.metadata` into packed records while the pickle is decoded. What is
/// wrong with a record is kept with it and reported only if it is needed: the same classes occur in
/// parts of the document that no one reads.
class MetadataFolder final : public pickle::Folder {
 public:
  struct Tensor {
    uint32_t properties = 0;  // index into properties()
    IntSpan size;
    uint32_t first_chunk = 0;  // into chunk_boxes()
    uint32_t chunk_count = 0;
    uint32_t problem = kNone;  // index into problems()
  };
  struct Properties {
    DType dtype = DType::kFloat32;
    bool requires_grad = false;
    uint32_t problem = kNone;
  };
  struct Index {
    uint32_t name = 0;         // index into names()
    uint32_t start = 0;        // index into ints()
    uint32_t rank = kNone;     // kNone: the index of an object, which has no offset
    uint32_t storage = kNone;  // index into storages()
  };
  struct Storage {
    uint64_t offset = 0;
    uint64_t length = 0;
    uint32_t file = 0;        // index into files()
    uint32_t transforms = 0;  // index into transforms(); 0 is the empty list
  };
  static constexpr uint32_t kNone = ~uint32_t{0};

  explicit MetadataFolder(uint64_t max_memory) : max_ints_(max_memory / sizeof(int64_t)) {}

  pickle::FoldRule OnGlobal(std::string_view module, std::string_view name) override;
  std::optional<uint64_t> Fold(uint32_t tag, const pickle::ObjectParts& object) override;
  bool FoldEntry(uint64_t key, uint64_t value) override;

  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::vector<Properties>& properties() const { return properties_; }
  std::vector<Index>& indices() { return indices_; }
  const std::vector<Storage>& storages() const { return storages_; }
  const std::vector<uint32_t>& chunk_boxes() const { return chunk_boxes_; }
  std::vector<int64_t>& ints() { return ints_; }
  const NameTable& names() const { return names_; }
  NameTable& files() { return files_; }
  std::vector<Transforms>& transforms() { return transforms_; }
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  std::optional<Handle> FoldSize(const pickle::ObjectParts& object);
  std::optional<Handle> FoldProperties(const pickle::ObjectParts& object);
  std::optional<Handle> FoldChunk(const pickle::ObjectParts& object);
  std::optional<Handle> FoldTensor(const pickle::ObjectParts& object);
  std::optional<Handle> FoldIndex(const pickle::ObjectParts& object);
  std::optional<Handle> FoldStorage(const pickle::ObjectParts& object);

  // A torch.Size, or a bare tuple of integers.
  std::optional<IntSpan> Ints(const pickle::Value* value);
  std::optional<IntSpan> AppendInts(std::span<const pickle::Value> items);
  std::optional<uint32_t> TransformList(const pickle::Value* value);
  // Adds the tensor's chunks that are not empty; false where one of them is not right.
  bool AddChunks(const pickle::Value* chunks, Tensor* tensor);
  uint32_t AddProblem(std::string text);

  uint64_t max_ints_;
  std::vector<int64_t> ints_;
  std::vector<uint32_t> chunk_boxes_;
  std::vector<Properties> properties_;
  std::vector<Tensor> tensors_;
  std::vector<Index> indices_;
  std::vector<Storage> storages_;
  std::vector<Transforms> transforms_{1};
  std::vector<std::string> problems_;
  NameTable names_;
  NameTable files_;
};

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_METADATA_FOLDER_H_
