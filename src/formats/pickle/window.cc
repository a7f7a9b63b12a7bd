#include "formats/pickle/window.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/try.h"

namespace reshard::pickle {
namespace {

// Fits the L2 cache with room for the values that are made from it.
constexpr size_t kWindowSize = size_t{256} << 10;

// Module and class names; CPython sets no bound.
constexpr size_t kMaxLine = 4096;

}  // namespace

Result<const uint8_t*> Window::Seek(uint64_t offset) {
  // The whole of a small source stays in memory between the two passes.
  if (begin_ != nullptr && offset >= begin_offset_ && offset < OffsetOf(safe_end_))
    return begin_ + (offset - begin_offset_);
  return Load(offset);
}

Result<const uint8_t*> Window::Refill(const uint8_t* p) { return Load(OffsetOf(p)); }

uint64_t Window::BytesLeft(const uint8_t* p) const {
  const uint64_t offset = OffsetOf(p);
  return offset < source_.size() ? source_.size() - offset : 0;
}

Error Window::PastEnd(uint64_t offset, uint64_t length) const {
  const uint64_t origin = source_.origin();
  return PastEndError(source_.name(), origin + offset, length, origin + source_.size());
}

Result<> Window::CheckLeft(const uint8_t* p, uint64_t length) const {
  if (length <= BytesLeft(p)) return {};
  return std::unexpected(PastEnd(OffsetOf(p), length));
}

Result<const uint8_t*> Window::Skip(const uint8_t* p, uint64_t length) {
  RESHARD_TRY(CheckLeft(p, length));
  if (length <= static_cast<uint64_t>(end_ - p)) return p + length;
  return Load(OffsetOf(p) + length);
}

Result<const uint8_t*> Window::CopyOut(const uint8_t* p, std::span<char> out) {
  RESHARD_TRY(CheckLeft(p, out.size()));
  const size_t here = std::min(out.size(), static_cast<size_t>(end_ - p));
  if (here != 0) std::memcpy(out.data(), p, here);
  if (here == out.size()) return p + here;
  const std::span<char> rest = out.subspan(here);
  RESHARD_TRY(source_.ReadAt(OffsetOf(end_), std::as_writable_bytes(rest)));
  return Load(OffsetOf(p) + out.size());
}

Result<std::string_view> Window::Line(const uint8_t* p) {
  RESHARD_TRY(CheckLeft(p, 1));
  if (static_cast<size_t>(end_ - p) < kMaxLine && end_ != safe_end_) {
    RESHARD_ASSIGN(p, Load(OffsetOf(p)));
  }
  const size_t longest = std::min(static_cast<size_t>(end_ - p), kMaxLine);
  const void* newline = std::memchr(p, '\n', longest);
  if (newline == nullptr)
    return std::unexpected(Error{.kind = ErrorKind::kSource,
                                 .file = source_.name(),
                                 .offset = FileOffsetOf(p),
                                 .found = "the name of a global that does not end",
                                 .expected = fmt::format("a line of less than {} bytes", kMaxLine),
                                 .help = "the file is damaged, or no pickle"});
  const char* text = reinterpret_cast<const char*>(p);
  return std::string_view(text, static_cast<const char*>(newline));
}

Result<const uint8_t*> Window::Load(uint64_t offset) {
  const uint64_t size = source_.size();
  if (offset >= size) return std::unexpected(PastEnd(size, 1));
  if (buffer_ == nullptr) {
    capacity_ = static_cast<size_t>(std::min<uint64_t>(kWindowSize, size - offset));
    buffer_ = std::make_unique_for_overwrite<uint8_t[]>(capacity_ + kSlack);
    begin_ = buffer_.get();
    end_ = begin_;
  }

  const size_t length = static_cast<size_t>(std::min<uint64_t>(capacity_, size - offset));
  // Bytes that are in memory already move to the front; the rest is read behind them.
  size_t kept = 0;
  if (offset >= begin_offset_ && offset < OffsetOf(end_)) {
    const uint8_t* from = begin_ + (offset - begin_offset_);
    kept = std::min(static_cast<size_t>(end_ - from), length);
    std::memmove(buffer_.get(), from, kept);
  }
  const std::span<uint8_t> rest(buffer_.get() + kept, length - kept);
  RESHARD_TRY(source_.ReadAt(offset + kept, std::as_writable_bytes(rest)));
  std::memset(buffer_.get() + length, 0, kSlack);

  begin_offset_ = offset;
  end_ = begin_ + length;
  const bool at_end = offset + length == size;
  safe_end_ = at_end ? end_ : end_ - kSlack;
  return begin_;
}

}  // namespace reshard::pickle
