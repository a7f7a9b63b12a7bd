#ifndef RESHARD_FORMATS_DCP_DCP_METADATA_H_
#define RESHARD_FORMATS_DCP_DCP_METADATA_H_

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/byte_source.h"
#include "formats/pickle/pickle.h"
#include "reshard/catalog.h"
#include "reshard/dtype.h"
#include "reshard/error.h"

/// The `.metadata` file of a PyTorch Distributed Checkpoint (DCP): one pickle that says which
/// tensors there are, into which boxes each was cut, and where the bytes of each box lie.
namespace reshard::dcp {

/// A step from a state dict to one of its values: the key of a dict, or the index of a list.
using PathKey = std::variant<std::string, int64_t>;
using Path = std::vector<PathKey>;

struct TensorRecord {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  bool requires_grad = false;
  uint32_t first_chunk = 0;  ///< its chunks are Metadata::chunks[first_chunk, +chunk_count),
  uint32_t chunk_count = 0;  ///< in the order of the file, none of them empty
  Path path;                 ///< empty where the file does not say
};

/// A value that is no tensor, stored as torch.save writes it.
struct ObjectRecord {
  std::string name;
  uint32_t file = 0;  ///< index into Metadata::files
  uint64_t offset = 0;
  uint64_t length = 0;
  Path path;
};

/// What the bytes of an entry went through when they were written, e.g. "stream.zstd/1". The last
/// one was applied last.
using Transforms = std::vector<std::string>;

struct TransformedEntry {
  uint32_t file = 0;
  uint32_t transforms = 0;  ///< index into Metadata::transforms
  uint64_t offset = 0;
};

/// A decoded `.metadata`. Tensors and objects are in the order of the file. A Chunk's `file` is an
/// index into `files`, its `box` one into `boxes`.
struct Metadata {
  std::vector<std::string> files;  ///< relative paths that stay within the checkpoint
  std::vector<TensorRecord> tensors;
  std::vector<ObjectRecord> objects;
  std::vector<Chunk> chunks;
  std::vector<int64_t> boxes;                         ///< and other integers between them
  std::vector<Transforms> transforms;                 ///< distinct ones
  std::vector<TransformedEntry> transformed_entries;  ///< sorted by (file, offset)
  std::vector<std::string> notes;  ///< what a person should know, one sentence each

  BoxView Box(const TensorRecord& tensor, const Chunk& chunk) const;

  /// Those of the entry at `offset` of `file`; none for most.
  std::span<const std::string> TransformsOf(uint32_t file, uint64_t offset) const;
};

/// Decodes the `.metadata` (or rank-local `__R.metadata`) that torch 2.1 to 2.15 write, and what
/// derives from it: classes are known by their name, unknown ones are inert. Nothing is called.
///
/// Checked here, errors of kind kSource that name the tensor: element types are known, sizes are
/// no negative numbers and do not overflow, chunks have their tensor's rank, every chunk that is
/// not empty and every object is in storage_data, and files lie within the checkpoint. Whether the
/// chunks tile their tensor is the catalog's to check.
Result<Metadata> DecodeMetadata(const ByteSource& source, const pickle::Limits& limits = {});

/// The parts of one checkpoint, each with the chunks that one rank wrote, as a whole; the chunks of
/// each tensor are sorted by start. A chunk or an object that several ranks wrote is kept once, the
/// first. Errors (kSource): a tensor with two shapes or element types, a name that is a tensor in
/// one part and an object in another, two chunks of different size that start at the same place.
Result<Metadata> MergeMetadata(std::vector<Metadata> parts);

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_DCP_METADATA_H_
