#ifndef RESHARD_LIVE_H_
#define RESHARD_LIVE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "reshard/convert.h"

namespace reshard {

/// The part of a tensor that one process (rank) has in its memory.
struct LiveShard {
  uint32_t rank = 0;
  Shape start;
  Shape extent;
};

/// A tensor that lies in the memory of one or more processes. The shards tile it.
struct LiveTensor {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
  std::vector<LiveShard> shards;
};

/// The memory of a shard of this process. It must stay while something reads from it.
struct LiveBytes {
  std::string tensor;
  Shape start;                    ///< of the shard: tells which of the tensor's it is
  const std::byte* data = nullptr;
  std::vector<int64_t> strides;   ///< in elements, none negative
};

/// A source of kind "live". `bytes` may be given for some shards or for none: reading another one
/// is an error of kind kUsage. Errors are those of any source: shards that leave a hole or overlap.
Result<std::unique_ptr<Source>> MakeLiveSource(const std::vector<LiveTensor>& tensors,
                                               const std::vector<LiveBytes>& bytes);

/// A number that tells whether processes have the same bytes.
uint64_t DigestOf(std::span<const std::byte> bytes);

/// A Hugging Face directory that several processes with a file system in common write together,
/// from what each has in memory: no tensor is put together anywhere. All processes call Prepare with
/// the same arguments but `rank` and so have the same plan, whose id tells that they do; who calls the
/// rest, and in which order, is said with each function. Where a process gets an error, the others must be told by the caller, and
/// the first one calls Abandon. Used by one thread.
class SharedSave {
 public:
  /// `request.source`, `from` and what concerns files of a source are not used. Every tensor's shards
  /// have one owner each. Only safetensors can be written.
  static Result<SharedSave> Prepare(const ConvertRequest& request,
                                    const std::vector<LiveTensor>& tensors, uint32_t rank,
                                    Reporter& reporter);
  SharedSave(SharedSave&&) noexcept;
  SharedSave& operator=(SharedSave&&) noexcept;
  ~SharedSave();

  const PlanSummary& summary() const;

  /// The directory that is written to until Commit.
  std::string staging() const;

  /// The first process, before any Write: makes all files at their size, with headers and assets.
  Result<> Create(bool force, Reporter& reporter);

  /// Each process: writes what becomes of the given shards, all of them its own. May be called often,
  /// each shard once. Progress is counted in bytes that this process writes.
  Result<> Write(const std::vector<LiveBytes>& shards, unsigned jobs,
                 const std::atomic<bool>* cancelled, Reporter& reporter);

  /// Each process, after its last Write: waits until what it wrote is on the disk. An error where a
  /// shard of its own has not been written.
  Result<> Sync();

  /// Finite values that became infinite in what this process wrote, by tensor.
  std::vector<std::pair<std::string, uint64_t>> overflows() const;

  /// Each process, after all have synced: the checksums of its part of the bytes that were written,
  /// by up to `jobs` threads.
  Result<std::string> Sum(uint64_t part, uint64_t parts, unsigned jobs,
                          const std::atomic<bool>* cancelled) const;

  /// The first process, with what Sum gave for all parts, in their order: looks again at the files
  /// that the plan was made from, writes the manifest and gives the output its name.
  Result<ConvertSummary> Commit(const std::vector<std::string>& parts, Reporter& reporter);

  /// The first process, in the place of Commit: removes what was written.
  void Abandon();

 private:
  struct State;
  explicit SharedSave(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace reshard

#endif  // RESHARD_LIVE_H_
