#ifndef RESHARD_CHECKPOINTS_DCP_ZSTD_ENTRY_H_
#define RESHARD_CHECKPOINTS_DCP_ZSTD_ENTRY_H_

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>

#include "base/byte_source.h"

namespace reshard {

/// The decompressed bytes of a zstd entry, of one or more frames, in bounded memory: a read
/// continues from the nearest earlier one, of which a few are remembered; behind all of them it
/// starts over. Safe to use from several threads, each going forward.
class ZstdEntry final : public ByteSource {
 public:
  /// Decompresses the whole entry once, to learn its size. `compressed` stays with the object.
  static Result<std::unique_ptr<ZstdEntry>> Open(std::unique_ptr<ByteSource> compressed);
  ~ZstdEntry() override;

  uint64_t size() const override { return size_; }
  const std::string& name() const override { return compressed_->name(); }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override;

 private:
  class Stream;
  explicit ZstdEntry(std::unique_ptr<ByteSource> compressed);
  Result<std::unique_ptr<Stream>> TakeStream(uint64_t offset) const;

  std::unique_ptr<ByteSource> compressed_;
  uint64_t size_ = 0;
  mutable std::mutex mutex_;
  mutable std::list<std::unique_ptr<Stream>> idle_;  // used last stands first
};

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_DCP_ZSTD_ENTRY_H_
