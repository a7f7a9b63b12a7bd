#ifndef RESHARD_FORMATS_DCP_METADATA_FOLDER_H_
#define RESHARD_FORMATS_DCP_METADATA_FOLDER_H_

#include <algorithm>
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

/// The handle of a folded object, in one word: its class, and what that class needs.
class Handle {
 public:
  Handle() = default;
  explicit Handle(uint64_t bits) : bits_(bits) {}
  Handle(Class type, uint32_t index, uint32_t rank = 0)
      : bits_(uint64_t(type) << 48 | uint64_t{rank} << 32 | index) {}

  explicit operator bool() const { return bits_ != 0; }
  uint64_t bits() const { return bits_; }
  Class type() const { return static_cast<Class>(bits_ >> 48); }
  /// Into what the folder holds for the class.
  uint32_t index() const { return static_cast<uint32_t>(bits_); }
  /// kSize, kChunk: number of dimensions.
  uint32_t rank() const { return static_cast<uint32_t>(bits_ >> 32 & 0xffff); }

 private:
  uint64_t bits_ = 0;
};

/// Turns the objects of a `.metadata` into packed records while the pickle is decoded. What is
/// wrong with a record is kept with it and reported only if it is needed: the same classes occur in
/// parts of the document that no one reads.
class MetadataFolder final : public pickle::Folder {
 public:
  struct Tensor {
    uint32_t properties = 0;   // index into properties()
    Handle size;               // kSize
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

  /// `max_memory`: bytes of coordinates. `document_size`: bytes of the pickle, from which the room
  /// for records is guessed.
  MetadataFolder(uint64_t max_memory, uint64_t document_size);

  pickle::FoldRule OnGlobal(std::string_view module, std::string_view name) override;
  uint64_t Fold(uint32_t tag, const pickle::ObjectParts& object) override;
  bool FoldEntry(uint64_t key, uint64_t value) override;

  std::span<const Tensor> tensors() const { return tensors_; }
  std::span<const Properties> properties() const { return properties_; }
  std::vector<Index>& indices() { return indices_; }
  std::vector<Storage>& storages() { return storages_; }
  const std::vector<uint32_t>& chunk_boxes() const { return chunk_boxes_; }
  std::vector<int64_t>& ints() { return ints_; }
  const NameTable& names() const { return names_; }
  NameTable& files() { return files_; }
  std::vector<Transforms>& transforms() { return transforms_; }
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  // These return nothing (a false handle) for an object of an unexpected shape.
  Handle FoldSize(const pickle::ObjectParts& object);
  Handle FoldProperties(const pickle::ObjectParts& object);
  Handle FoldChunk(const pickle::ObjectParts& object);
  Handle FoldTensor(const pickle::ObjectParts& object);
  Handle FoldIndex(const pickle::ObjectParts& object);
  Handle FoldStorage(const pickle::ObjectParts& object);

  // A torch.Size, or a bare tuple of integers, as a kSize.
  Handle Size(const pickle::Value* value);
  std::span<const int64_t> Span(uint32_t index, uint32_t rank) const {
    return std::span(ints_).subspan(index, rank);
  }
  Handle AppendInts(std::span<const pickle::Value> items);
  bool HasRoom(size_t ints) const { return ints_.size() + ints <= max_ints_; }
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
