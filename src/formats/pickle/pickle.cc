#include "formats/pickle/pickle.h"

#include <fmt/format.h>

#include <utility>

#include "base/try.h"
#include "formats/pickle/machine.h"
#include "formats/pickle/scan.h"
#include "formats/pickle/window.h"

namespace reshard::pickle {

Document::Document(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Document::~Document() = default;
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;

const Value& Document::root() const { return impl_->root; }
uint64_t Document::end() const { return impl_->end; }
uint64_t Document::memory() const { return impl_->arena.memory(); }

Result<Document> Decode(const ByteSource& source, uint64_t offset, const Limits& limits,
                        Folder* folder) {
  Window window(source);
  RESHARD_ASSIGN(SlotSet read, FindReadSlots(window, offset));
  if (read.Count() > limits.max_memory / sizeof(Value))
    return std::unexpected(
        Error{.kind = ErrorKind::kSource,
              .file = source.name(),
              .offset = source.origin() + offset,
              .found = fmt::format("a pickle that reads {} memo slots", read.Count()),
              .expected = fmt::format("at most {} bytes of values", limits.max_memory),
              .help = "the file is damaged, or made to exhaust memory"});
  return Machine(window, offset, limits, folder, std::move(read)).Run();
}

}  // namespace reshard::pickle
