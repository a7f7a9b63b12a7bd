#ifndef RESHARD_ENGINE_SHARD_WRITER_H_
#define RESHARD_ENGINE_SHARD_WRITER_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/crew.h"
#include "io/file.h"
#include "plan/plan_data.h"
#include "reshard/reporter.h"
#include "reshard/source.h"
#include "view/chunk_index.h"

namespace reshard {

/// Writes, into files that others write too, the bytes of a plan that come from some chunks of the
/// source alone: what one process contributes to an output of many. Used by one thread, which
/// itself starts others.
class ShardWriter {
 public:
  /// The plan, the source and its catalog must outlive it. The plan's files lie in `directory`, at
  /// their size, under their staged names.
  ShardWriter(const Plan& plan, const Source& source, std::filesystem::path directory);

  /// Writes what becomes of these tensors' chunks in catalog file number `file`. Each run of bytes
  /// that lie together in the target is written at once, so runs should be long.
  Result<> Write(std::span<const uint32_t> tensors, uint32_t file, Reporter& reporter,
                 const Crew& crew);

  /// Waits until all that was written is on the disk.
  Result<> Sync();

 private:
  struct Place {
    size_t file;
    size_t slot;
  };
  // Elements [first, last) of a slot, in row-major order, all of them of one chunk.
  struct Run {
    Place place;
    int64_t first;
    int64_t last;
  };
  Result<std::vector<Run>> RunsOf(std::span<const uint32_t> tensors, uint32_t file,
                                  std::vector<bool>* chunks) const;
  Result<OutputFile*> FileAt(size_t number);

  const Plan& plan_;
  const Source& source_;
  const ChunkIndex index_;
  const std::filesystem::path directory_;
  std::vector<std::vector<Place>> uses_;  // by tensor of the source: the slots made of it

  std::mutex mutex_;  // guards files_
  std::map<size_t, std::unique_ptr<OutputFile>> files_;
  uint64_t bytes_done_ = 0;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_SHARD_WRITER_H_
