#ifndef RESHARD_ENGINE_FILE_JOB_H_
#define RESHARD_ENGINE_FILE_JOB_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/checksum.h"
#include "engine/window.h"
#include "io/output_directory.h"
#include "plan/plan_data.h"

namespace reshard {

/// One file being written, block by block, in any order, by several threads at once.
class FileJob {
 public:
  /// The file is made in `directory`, which must outlive the job.
  FileJob(const FilePlan& plan, const OutputDirectory& directory);

  uint64_t block_count() const { return sum_.blocks.size(); }

  /// What one thread needs to fill blocks.
  struct Tools {
    WindowFiller& filler;
    BlockHash& hash;
    const OverflowFn& on_overflow;
    std::atomic<uint64_t>& bytes_done;
    const std::atomic<bool>& stop;  ///< checked between windows
  };

  /// Writes block number `block`. True where it was the last one missing.
  Result<bool> WriteBlock(uint64_t block, const Tools& tools);

  /// The name that a file has until the whole output is complete: nothing takes it for weights.
  static std::string StagedName(const std::string& path);

  /// After the last block: writes the late bytes and waits until all is on the disk.
  Result<FileChecksum> Finish();

 private:
  Result<> Open();
  void AddToCrcs(uint64_t block, uint64_t begin, std::span<const std::byte> bytes);
  Result<> WriteLateBytes();

  const FilePlan& plan_;
  const OutputDirectory& directory_;
  std::once_flag opened_;
  Result<> open_result_;
  std::unique_ptr<OutputFile> file_;
  std::unique_ptr<InputFile> original_;  // of a copied file
  FileChecksum sum_;
  std::atomic<uint64_t> missing_;

  // The CRC-32 of the part of a late range that lies in one block.
  struct CrcPart {
    uint32_t crc = 0;
    uint64_t length = 0;
  };
  std::vector<std::vector<std::pair<size_t, CrcPart>>> crc_parts_;  // by block: (late range, part)
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_FILE_JOB_H_
