#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <mutex>
#include <vector>

#include "base/try.h"
#include "io/file.h"

namespace reshard {
namespace {

// Half of the usual limit of 1024 descriptors a process.
constexpr size_t kMaxOpen = 512;

// Half of the descriptors that this process may have; the output's files need some, too.
size_t MostOpen() {
  struct rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kMaxOpen;
  return std::clamp<size_t>(limit.rlim_cur / 2, 1, kMaxOpen);
}

}  // namespace

struct FileSet::Impl {
  // What is open is let go, what was opened first before all others; whoever reads from it keeps it
  // open as long as that lasts.
  void CloseOne() const {
    open[order.front()].reset();
    order.pop_front();
  }

  const size_t most_open = MostOpen();
  std::filesystem::path root;
  std::vector<SourceFile> files;
  mutable std::mutex mutex;
  mutable std::vector<std::shared_ptr<const InputFile>> open;  // by file index
  mutable std::list<uint32_t> order;                           // opened first stands first
};

FileSet::FileSet(std::filesystem::path root) : impl_(std::make_unique<Impl>()) {
  impl_->root = std::move(root);
}

FileSet::~FileSet() = default;

uint32_t FileSet::Add(SourceFile file) {
  impl_->files.push_back(std::move(file));
  impl_->open.emplace_back();
  return static_cast<uint32_t>(impl_->files.size() - 1);
}

size_t FileSet::count() const { return impl_->files.size(); }

Result<std::shared_ptr<const InputFile>> FileSet::Open(uint32_t index) const {
  std::lock_guard lock(impl_->mutex);
  auto& slot = impl_->open[index];
  if (slot) return slot;
  if (impl_->order.size() >= impl_->most_open) impl_->CloseOne();
  const SourceFile& known = impl_->files[index];
  int error_number = 0;
  auto file = InputFile::Open(impl_->root / known.path, &error_number);
  while (!file && (error_number == EMFILE || error_number == ENFILE) && !impl_->order.empty()) {
    impl_->CloseOne();
    file = InputFile::Open(impl_->root / known.path, &error_number);
  }
  if (!file) return std::unexpected(std::move(file).error());
  RESHARD_TRY(CompareStates(known, (*file)->state()));
  slot = *std::move(file);
  impl_->order.push_back(index);
  return slot;
}

Result<> FileSet::ReadAt(uint32_t index, uint64_t offset, std::span<std::byte> out) const {
  RESHARD_ASSIGN(auto file, Open(index));
  return file->ReadAt(offset, out);
}

}  // namespace reshard
