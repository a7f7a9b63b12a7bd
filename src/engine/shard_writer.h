#ifndef RESHARD_ENGINE_SHARD_WRITER_H_
#define RESHARD_ENGINE_SHARD_WRITER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/box_filler.h"
#include "engine/crew.h"
#include "io/file.h"
#include "plan/plan_data.h"
#include "reshard/reporter.h"
#include "reshard/source.h"
#include "view/chunk_index.h"

namespace reshard {

/// Writes, into files that others write too, the bytes of a plan that come from one of the source's
/// files alone: what one process contributes to an output of many. Used by one thread, which itself
/// starts others.
class ShardWriter {
 public:
  /// Finds out what catalog file number `file` contributes; nothing is opened yet. The plan, the
  /// source and its catalog must outlive it. The plan's files will lie in `directory`, at their size,
  /// under their staged names. Errors are of kind kMapping: bytes that come from no chunk and are
  /// not zero.
  static Result<std::unique_ptr<ShardWriter>> Make(const Plan& plan, const Source& source,
                                                   uint32_t file, std::filesystem::path directory);

  /// Writes what becomes of chunks of the file, given by position among all of the catalog, each
  /// once. Runs of bytes that lie together in the target are written at once, so they should be
  /// long. Errors are of kind kUsage: a chunk of another file.
  Result<> Write(std::span<const uint32_t> chunks, Reporter& reporter, const Crew& crew);

  /// After the last Write: waits until all is on the disk. Errors are of kind kUsage where a chunk
  /// has not been written.
  Result<> Sync();

  /// Finite values that a cast made infinite, by tensor of the target.
  const std::map<std::string, uint64_t>& overflows() const { return overflows_; }

 private:
  struct Place {
    size_t file;
    size_t slot;
  };
  // Elements of a slot that come from one chunk.
  struct Piece {
    Place place;
    int64_t first;
    std::vector<Loop> loops;
  };
  // Elements [first, last) of a slot, in row-major order, all of them of one chunk.
  struct Run {
    Place place;
    int64_t first;
    int64_t last;
  };
  ShardWriter(const Plan& plan, const Source& source, uint32_t file,
              std::filesystem::path directory);
  void FindChunks();
  Result<> FindPieces();
  std::vector<Run> RunsOf(std::span<const uint32_t> chunks) const;
  Result<> WriteRun(const Run& run, const std::atomic<bool>& stop, BoxFiller* filler,
                    std::vector<std::byte>* buffer);
  Result<OutputFile*> FileAt(size_t number);
  const Slot& SlotAt(const Place& place) const {
    return plan_.files[place.file].slots[place.slot];
  }

  const Plan& plan_;
  const Source& source_;
  const ChunkIndex index_;
  const uint32_t file_;
  const std::filesystem::path directory_;
  ChunkSet own_;  // the chunks of the file
  std::map<uint32_t, std::vector<Piece>> pieces_;  // by chunk: what is still to be written
  uint64_t bytes_total_ = 0;
  std::atomic<uint64_t> bytes_done_ = 0;

  std::mutex mutex_;  // guards the rest
  std::map<size_t, std::unique_ptr<OutputFile>> files_;
  std::map<std::string, uint64_t> overflows_;
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_SHARD_WRITER_H_
