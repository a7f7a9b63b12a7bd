#ifndef RESHARD_CATALOG_H_
#define RESHARD_CATALOG_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/dtype.h"
#include "reshard/error.h"

namespace reshard {

/// Extents, or coordinates, of a tensor: one entry per dimension, outermost first, in elements.
using Shape = std::vector<int64_t>;

/// A file of a checkpoint. Size, time and inode together tell whether it has changed since.
struct SourceFile {
  std::string path;  ///< relative to the checkpoint's directory
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  uint64_t inode = 0;

  bool operator==(const SourceFile&) const = default;
};

/// A box of a tensor and the bytes that hold it. How the elements lie within the bytes is the
/// source's to say (Source::Locate): an entry may have a header of its own.
struct Chunk {
  uint64_t offset = 0;  ///< first byte of the entry in the file
  uint64_t length = 0;  ///< bytes of the entry
  uint32_t file = 0;    ///< index into Catalog::files()
  uint32_t box = 0;     ///< see Catalog::Box
};

/// The part of a tensor that a chunk holds; both spans have one entry per dimension.
struct BoxView {
  std::span<const int64_t> start;
  std::span<const int64_t> extent;
};

/// One logical tensor: whole, however many chunks it is stored in.
struct Tensor {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  uint32_t first_chunk = 0;  ///< its chunks are Catalog::chunks()[first_chunk, +chunk_count),
  uint32_t chunk_count = 0;  ///< sorted by start, none of them empty

  int64_t numel() const;      ///< number of elements
  int64_t byte_size() const;  ///< numel() * ItemSize(dtype)
};

/// A value that is not a tensor: an optimizer's hyper-parameter, a data loader's state.
struct Object {
  std::string name;
  std::string summary;      ///< the value in a few words where it is small, else what it is
  uint64_t byte_size = 0;   ///< as stored
};

/// A tensor, or a value with tensors in it, that is stored in a form which is not read: quantized or
/// sparse, of a class of its own, within a tuple. It can be left out by its name, and not otherwise.
struct UnreadableTensor {
  std::string name;
  std::string what;   ///< "a quantized tensor", "a tensor of the class my.Wrapped"
  uint32_t file = 0;  ///< index into Catalog::files()
};

/// What a checkpoint holds: its tensors, sorted by name, where the bytes of each lie, and the names
/// of what is no tensor. A value: copy it, keep it; it holds no file open.
class Catalog {
 public:
  const std::vector<SourceFile>& files() const { return files_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::vector<UnreadableTensor>& unreadable() const { return unreadable_; }
  const std::vector<Object>& objects() const { return objects_; }
  std::span<const Chunk> chunks(const Tensor& tensor) const {
    return std::span(chunks_).subspan(tensor.first_chunk, tensor.chunk_count);
  }
  BoxView Box(const Tensor& tensor, const Chunk& chunk) const {
    const size_t rank = tensor.shape.size();
    const std::span<const int64_t> both = std::span(boxes_).subspan(chunk.box, 2 * rank);
    return {both.first(rank), both.last(rank)};
  }

  /// The tensor of that name, or null.
  const Tensor* Find(std::string_view name) const;

 private:
  friend class CatalogBuilder;
  std::vector<SourceFile> files_;
  std::vector<Tensor> tensors_;
  std::vector<UnreadableTensor> unreadable_;
  std::vector<Object> objects_;
  std::vector<Chunk> chunks_;
  std::vector<int64_t> boxes_;  // start and extent of each chunk
};

}  // namespace reshard

#endif  // RESHARD_CATALOG_H_
