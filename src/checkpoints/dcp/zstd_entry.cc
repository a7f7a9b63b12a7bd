#include "checkpoints/dcp/zstd_entry.h"

#include <zstd.h>

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "base/try.h"

namespace reshard {
namespace {

// Streams kept for later reads of one entry: one for each thread of a usual machine.
constexpr size_t kMaxIdle = 8;

// Frames that need more memory than this are refused (2^27 is what the zstd program allows too).
constexpr int kMaxWindowLog = 27;

}  // namespace

class ZstdEntry::Stream {
 public:
  explicit Stream(const ByteSource& compressed) : compressed_(compressed), in_(ZSTD_DStreamInSize()) {
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
  }

  uint64_t position() const { return position_; }

  /// Decompresses into `out`; gives how many bytes there were, fewer only at the end.
  Result<size_t> Read(std::span<std::byte> out) {
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    while (output.pos < output.size) {
      if (input_.pos == input_.size) {
        const uint64_t left = compressed_.size() - next_;
        if (left == 0 && !inside_frame_) break;
        if (left == 0) return std::unexpected(Fault("the compressed data ends within a frame"));
        const auto part = std::span(in_).first(std::min<uint64_t>(in_.size(), left));
        RESHARD_TRY(compressed_.ReadAt(next_, part));
        next_ += part.size();
        input_ = {part.data(), part.size(), 0};
      }
      const size_t hint = ZSTD_decompressStream(context_.get(), &output, &input_);
      if (ZSTD_isError(hint)) return std::unexpected(Fault(ZSTD_getErrorName(hint)));
      inside_frame_ = hint != 0;
    }
    position_ += output.pos;
    return output.pos;
  }

 private:
  Error Fault(std::string_view what) const {
    return Error{.kind = ErrorKind::kSource,
                 .file = compressed_.name(),
                 .offset = compressed_.origin(),
                 .found = fmt::format("the zstd entry at this offset cannot be read: {}", what),
                 .expected = "complete zstd frames",
                 .help = "the file is damaged: copy it again"};
  }

  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  const ByteSource& compressed_;
  std::unique_ptr<ZSTD_DCtx, Free> context_{ZSTD_createDCtx()};
  std::vector<std::byte> in_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  uint64_t next_ = 0;      // of the compressed bytes
  uint64_t position_ = 0;  // of the decompressed ones
  bool inside_frame_ = false;
};

ZstdEntry::ZstdEntry(std::unique_ptr<ByteSource> compressed)
    : compressed_(std::move(compressed)) {}
ZstdEntry::~ZstdEntry() = default;

Result<std::unique_ptr<ZstdEntry>> ZstdEntry::Open(std::unique_ptr<ByteSource> compressed) {
  std::unique_ptr<ZstdEntry> entry(new ZstdEntry(std::move(compressed)));
  Stream stream(*entry->compressed_);
  std::vector<std::byte> buffer(ZSTD_DStreamOutSize());
  for (;;) {
    RESHARD_ASSIGN(const size_t count, stream.Read(buffer));
    entry->size_ += count;
    if (count < buffer.size()) return entry;
  }
}

Result<std::unique_ptr<ZstdEntry::Stream>> ZstdEntry::TakeStream(uint64_t offset) const {
  std::lock_guard lock(mutex_);
  auto best = idle_.end();
  for (auto at = idle_.begin(); at != idle_.end(); ++at)
    if ((*at)->position() <= offset &&
        (best == idle_.end() || (*at)->position() > (*best)->position()))
      best = at;
  if (best == idle_.end()) return std::make_unique<Stream>(*compressed_);
  std::unique_ptr<Stream> stream = std::move(*best);
  idle_.erase(best);
  return stream;
}

Result<> ZstdEntry::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset)
    return std::unexpected(PastEndError(name(), offset, out.size(), size_));
  RESHARD_ASSIGN(std::unique_ptr<Stream> stream, TakeStream(offset));
  std::vector<std::byte> skipped(
      std::min<uint64_t>(offset - stream->position(), ZSTD_DStreamOutSize()));
  while (stream->position() < offset) {
    const auto part =
        std::span(skipped).first(std::min<uint64_t>(offset - stream->position(), skipped.size()));
    RESHARD_ASSIGN(const size_t count, stream->Read(part));
    if (count < part.size())  // The file has changed since its size was learnt.
      return std::unexpected(PastEndError(name(), offset, out.size(), stream->position()));
  }
  RESHARD_ASSIGN(const size_t count, stream->Read(out));
  if (count < out.size())
    return std::unexpected(PastEndError(name(), offset, out.size(), offset + count));
  std::lock_guard lock(mutex_);
  idle_.push_front(std::move(stream));
  if (idle_.size() > kMaxIdle) idle_.pop_back();
  return {};
}

}  // namespace reshard
