#include <list>
#include <mutex>
#include <vector>

#include "base/try.h"
#include "io/file.h"

namespace reshard {
namespace {

// Half of the usual limit of 1024 descriptors a process.
constexpr size_t kMaxOpen = 512;

}  // namespace

struct FileSet::Impl {
  std::filesystem::path root;
  std::vector<std::string> names;
  mutable std::mutex mutex;
  mutable std::vector<std::shared_ptr<const InputFile>> open;  // by file index
  mutable std::list<uint32_t> order;                           // opened first stands first
};

FileSet::FileSet(std::filesystem::path root) : impl_(std::make_unique<Impl>()) {
  impl_->root = std::move(root);
}

FileSet::~FileSet() = default;

uint32_t FileSet::Add(std::string relative) {
  impl_->names.push_back(std::move(relative));
  impl_->open.emplace_back();
  return static_cast<uint32_t>(impl_->names.size() - 1);
}

size_t FileSet::count() const { return impl_->names.size(); }

Result<std::shared_ptr<const InputFile>> FileSet::Open(uint32_t index) const {
  std::lock_guard lock(impl_->mutex);
  auto& slot = impl_->open[index];
  if (slot) return slot;
  RESHARD_ASSIGN(auto file, InputFile::Open(impl_->root / impl_->names[index]));
  if (impl_->order.size() >= kMaxOpen) {
    impl_->open[impl_->order.front()].reset();
    impl_->order.pop_front();
  }
  slot = std::move(file);
  impl_->order.push_back(index);
  return slot;
}

Result<> FileSet::ReadAt(uint32_t index, uint64_t offset, std::span<std::byte> out) const {
  RESHARD_ASSIGN(auto file, Open(index));
  return file->ReadAt(offset, out);
}

}  // namespace reshard
