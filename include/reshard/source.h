#ifndef RESHARD_SOURCE_H_
#define RESHARD_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "reshard/catalog.h"
#include "reshard/error.h"

namespace reshard {

/// A checksum that a file carries of some of its own bytes.
struct StoredCrc {
  uint64_t offset = 0;  ///< of the first byte, in the file
  uint64_t length = 0;
  uint32_t crc32 = 0;  ///< zip's CRC-32 of them
};

/// How the elements of one chunk lie in a file.
struct ChunkLayout {
  uint32_t file = 0;             ///< what Source::ReadAt takes; may lie past Catalog::files() for
                                 ///< bytes that are decoded on the way (a compressed entry)
  uint64_t offset = 0;           ///< of the chunk's first element, in bytes
  std::vector<int64_t> strides;  ///< one per dimension, in elements; never negative
  bool swap_bytes = false;       ///< elements are stored big-endian
  bool conjugate = false;        ///< imaginary parts are to be negated
  bool negate = false;           ///< values are to be negated
  std::optional<StoredCrc> crc{};  ///< of bytes that hold the chunk, and maybe others
};

/// The way from a nested state dict to one of its values: keys of dicts, indices of lists.
using StatePath = std::vector<std::variant<std::string, int64_t>>;

/// An opened checkpoint: what there is, and its bytes. Safe to use from several threads.
class Source {
 public:
  virtual ~Source() = default;

  virtual const Catalog& catalog() const = 0;

  /// The kind's name: "dcp", "hf", "megatron", "pt".
  virtual std::string_view kind() const = 0;

  /// On what evidence the kind was chosen: one phrase.
  virtual std::string_view evidence() const = 0;

  /// The directory (or the file's directory) that file paths are relative to.
  virtual const std::string& root() const = 0;

  /// Where the elements of `chunk` lie. May read and check the chunk's own header, whose size,
  /// type and shape must agree with the catalog (kSource otherwise, naming the tensor).
  virtual Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const = 0;

  /// Fills `out` from `offset` of a file that a ChunkLayout names.
  virtual Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const = 0;

  /// What a person should know about the source but need not act on, one sentence each.
  virtual const std::vector<std::string>& notes() const = 0;

  /// Numbers that the checkpoint says about itself and that a mapping may need, such as Megatron's
  /// tensor_model_parallel_size, num_layers, padded_vocab_size; truth values are 0 or 1. What is not
  /// there is not known. Most kinds have none.
  virtual std::map<std::string, int64_t> hints() const { return {}; }

  /// Where the tensor or object of that name stood in the state dict that was saved; empty if the
  /// checkpoint does not say.
  virtual StatePath PathOf(std::string_view) const { return {}; }

  /// The bytes that torch.save made of an object; nothing where the kind does not keep it so.
  virtual Result<std::optional<std::string>> ReadObject(const Object&) const {
    return std::nullopt;
  }

  /// Free text that the files hold for whoever reads them, and that goes along with the tensors:
  /// safetensors' `__metadata__`. Most kinds have none.
  virtual std::map<std::string, std::string> metadata() const { return {}; }
};

}  // namespace reshard

#endif  // RESHARD_SOURCE_H_
