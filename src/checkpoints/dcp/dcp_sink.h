#ifndef RESHARD_CHECKPOINTS_DCP_DCP_SINK_H_
#define RESHARD_CHECKPOINTS_DCP_DCP_SINK_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file_layout.h"
#include "formats/dcp/dcp_metadata.h"
#include "formats/torch_save/entry_writer.h"
#include "reshard/error.h"

namespace reshard {

inline constexpr unsigned kMaxDcpRanks = 1u << 20;

/// A value that is no tensor, as it is to stand in a checkpoint.
struct DcpObject {
  std::string name;
  torch_save::PlainValue value;
  dcp::Path path;  ///< as in DcpRequest::paths
  std::optional<std::string> stored{};  ///< what torch.save made of it, in the place of `value`
};

/// How a checkpoint is to be cut, and what it holds besides tensors.
struct DcpRequest {
  unsigned ranks = 1;  ///< 1 to kMaxDcpRanks
  /// Where each tensor stands in the nested state dict that dcp_to_torch_save and the like rebuild,
  /// e.g. ("model", "a.b") for "model.a.b": its keys, joined by dots, are the tensor's name. An
  /// empty path stands for the name as the one key; no paths at all, for empty ones.
  std::span<const dcp::Path> paths;
  std::span<const DcpObject> objects;
};

/// What a slot of a file takes: rows [start, start + count) of a tensor, row-major. A row is what
/// one index of dimension 0 selects; a tensor without dimensions is one row.
struct DcpSlot {
  size_t tensor = 0;  ///< index into the tensors that were laid out
  int64_t start = 0;
  int64_t count = 0;  ///< 0 only for a tensor without rows
};

/// One `__R_0.distcp`; empty, of size 0, where its rank holds nothing.
struct DcpFile {
  std::string path;  ///< relative to the checkpoint
  FileLayout layout;
  std::vector<DcpSlot> slots;  ///< one for each of layout.slots, in their order
};

struct DcpOutput {
  std::vector<DcpFile> files;  ///< one a rank, in their order
  std::string metadata;        ///< the bytes of `.metadata`, which makes the checkpoint complete
};

/// Lays out a DCP checkpoint as FSDP2 on `ranks` ranks would save it: each tensor is cut along
/// dimension 0 as torch.chunk does, into rows of ceil(n / ranks), so that trailing ranks may hold
/// less or nothing; what has no dimensions or no elements, and the objects, are the first rank's.
/// torch 2.1 and later read it (uint16 and other types without a storage class: 2.2), on any number
/// of ranks. Time and memory are linear in the chunks, some 1.5 KiB each. See format.md beside this
/// file.
///
/// Errors: kUsage for the number of ranks; kMapping, naming the tensor, for what torch cannot hold
/// (see torch_save::CountBytes), for names and paths that are no state dict (see dcp::CheckPaths),
/// for a text of 1 MiB, for a file of 2^62 bytes, and for more chunks than `.metadata` is read
/// with.
Result<DcpOutput> LayoutDcp(std::span<const TensorDecl> tensors, const DcpRequest& request);

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_DCP_DCP_SINK_H_
