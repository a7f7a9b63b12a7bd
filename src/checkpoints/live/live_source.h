#ifndef RESHARD_CHECKPOINTS_LIVE_LIVE_SOURCE_H_
#define RESHARD_CHECKPOINTS_LIVE_LIVE_SOURCE_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "reshard/live.h"
#include "reshard/source.h"

namespace reshard {

/// Tensors in the memory of processes. To the catalog each process is a file, and each shard an entry
/// of it; the bytes of this process's shards are lent and taken back as its owner likes.
class LiveSource final : public Source {
 public:
  static Result<std::unique_ptr<LiveSource>> Make(const std::vector<LiveTensor>& tensors);

  /// Lends memory for shards of the catalog; gives their positions among all of its chunks. Errors
  /// are of kind kUsage: no such shard. Not while another thread reads.
  Result<std::vector<uint32_t>> Lend(const std::vector<LiveBytes>& shards);
  void TakeBack() { lent_.clear(); }

  const Catalog& catalog() const override { return catalog_; }
  std::string_view kind() const override { return "live"; }
  std::string_view evidence() const override { return "tensors in memory"; }
  const std::string& root() const override { return root_; }
  const std::vector<std::string>& notes() const override { return notes_; }
  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const override;
  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override;

 private:
  struct Lent {
    const std::byte* data;
    uint64_t size;  // bytes from the first element to the end of the last
    std::vector<int64_t> strides;
  };

  Catalog catalog_;
  std::map<std::pair<uint32_t, uint64_t>, uint32_t> lent_at_;  // chunk's file and offset -> number
  std::map<uint32_t, Lent> lent_;                              // by that number
  std::string root_;  // none: there is no directory
  std::vector<std::string> notes_;
};

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_LIVE_LIVE_SOURCE_H_
