#ifndef RESHARD_FORMATS_TORCH_SAVE_EDGE_CACHE_H_
#define RESHARD_FORMATS_TORCH_SAVE_EDGE_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/byte_source.h"

namespace reshard::torch_save {

/// A source whose first and last bytes are read once and then served from memory. All that
/// torch.save writes around a single tensor fits there, so that decoding it costs two reads; one
/// where the whole is small.
class EdgeCache final : public ByteSource {
 public:
  /// `base` must outlive the object.
  explicit EdgeCache(const ByteSource& base) : base_(base) {}

  /// Reads the edges. Until then, and for what lies between them, reads go to `base`.
  Result<> Fill();

  uint64_t size() const override { return base_.size(); }
  const std::string& name() const override { return base_.name(); }
  uint64_t origin() const override { return base_.origin(); }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override;

 private:
  // The pickle of a tensor of few dimensions ends before byte 500 and the records between it and
  // the data before byte 704. Behind the data: two records, seven directory entries, 98 bytes.
  static constexpr uint64_t kHead = 1536;
  static constexpr uint64_t kTail = 1024;

  const ByteSource& base_;
  uint64_t head_ = 0;        // bytes_[0, head_) is the start of the source,
  uint64_t tail_start_ = 0;  // bytes_[head_, +tail_) what begins there
  uint64_t tail_ = 0;
  std::array<std::byte, kHead + kTail> bytes_;
};

}  // namespace reshard::torch_save

#endif  // RESHARD_FORMATS_TORCH_SAVE_EDGE_CACHE_H_
