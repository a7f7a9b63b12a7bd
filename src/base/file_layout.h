#ifndef RESHARD_BASE_FILE_LAYOUT_H_
#define RESHARD_BASE_FILE_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "reshard/dtype.h"

namespace reshard {

/// A tensor that a file is to hold.
struct TensorDecl {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
};

/// Bytes of a file that are known before any tensor is read.
struct Literal {
  uint64_t offset = 0;
  std::string bytes;
};

/// A CRC-32 of a part of the file, known only once that part is written ("late bytes"): it goes,
/// as 4 bytes little-endian, to each of `targets`.
struct LateCrc {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::vector<uint64_t> targets;
};

/// How one file is laid out for given tensors: what every writer of a format produces.
struct FileLayout {
  uint64_t size = 0;
  std::vector<Literal> literals;       ///< sorted, disjoint
  std::vector<uint64_t> slots;         ///< offset of each declared tensor's first byte
  std::vector<LateCrc> late_crcs;      ///< sorted by begin, disjoint
};

}  // namespace reshard

#endif  // RESHARD_BASE_FILE_LAYOUT_H_
