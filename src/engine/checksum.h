#ifndef RESHARD_ENGINE_CHECKSUM_H_
#define RESHARD_ENGINE_CHECKSUM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/byte_source.h"

namespace reshard {

/// A file is summed in blocks of this many bytes (the last may be shorter), so that blocks can be
/// written, and checked, in any order.
inline constexpr uint64_t kBlockBytes = uint64_t{4} << 20;

/// Number of blocks of a file; an empty file has none.
inline uint64_t BlockCount(uint64_t file_size) {
  return file_size / kBlockBytes + (file_size % kBlockBytes != 0);
}

/// XXH3 (64 bits) of one block, fed piece by piece.
class BlockHash {
 public:
  BlockHash();
  ~BlockHash();
  void Reset();
  void Update(std::span<const std::byte> bytes);
  uint64_t Digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What is known of a finished file's bytes.
struct FileChecksum {
  uint64_t size = 0;
  std::vector<uint64_t> blocks;  ///< XXH3 of each block

  /// XXH3 (128 bits) of the block sums in order, little-endian: 32 hex digits.
  std::string Root() const;
  bool operator==(const FileChecksum&) const = default;
};

/// Reads block number `block` of a file and sums it.
Result<uint64_t> SumBlock(const ByteSource& file, uint64_t block);

/// Reads a file whole and sums it.
Result<FileChecksum> SumFile(const ByteSource& file);

}  // namespace reshard

#endif  // RESHARD_ENGINE_CHECKSUM_H_
