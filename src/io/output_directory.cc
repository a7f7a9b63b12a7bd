#include "io/output_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "base/try.h"
#include "io/system_call.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr int kFolder = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// A descriptor that is closed at the end, unless it is only lent.
class Descriptor {
 public:
  static Descriptor Lent(int fd) { return Descriptor(fd, false); }
  static Descriptor Owned(int fd) { return Descriptor(fd, true); }
  Descriptor(Descriptor&& other) noexcept
      : fd_(other.fd_), owned_(std::exchange(other.owned_, false)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(owned_, other.owned_);
    return *this;
  }
  ~Descriptor() {
    if (owned_ && fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  Descriptor(int fd, bool owned) : fd_(fd), owned_(owned) {}
  int fd_;
  bool owned_;
};

// The folder `folder` below `root`, one step at a time, so that none of them is a link; -1 with
// errno where there is none. "" is the root itself.
Descriptor OpenFolder(int root, std::string_view folder, bool make) {
  Descriptor at = Descriptor::Lent(root);
  while (!folder.empty() && at.get() >= 0) {
    const size_t slash = folder.find('/');
    const std::string step(folder.substr(0, slash));
    folder = slash == std::string_view::npos ? std::string_view() : folder.substr(slash + 1);
    if (make && Retry([&] { return ::mkdirat(at.get(), step.c_str(), 0777); }) != 0 &&
        errno != EEXIST)
      return Descriptor::Owned(-1);
    at = Descriptor::Owned(Retry([&] { return ::openat(at.get(), step.c_str(), kFolder); }));
  }
  return at;
}

// "a/b" and "c" of "a/b/c".
std::pair<std::string_view, std::string> Split(std::string_view name) {
  const size_t slash = name.rfind('/');
  if (slash == std::string_view::npos) return {{}, std::string(name)};
  return {name.substr(0, slash), std::string(name.substr(slash + 1))};
}

}  // namespace

Result<OutputDirectory> OutputDirectory::Open(const fs::path& path) {
  OutputDirectory directory;
  directory.path_ = path;
  directory.fd_ = Retry([&] { return ::open(path.c_str(), kFolder); });
  struct stat info;
  if (directory.fd_ < 0 || Retry([&] { return ::fstat(directory.fd_, &info); }) != 0)
    return std::unexpected(directory.Fault("", "open", errno));
  directory.inode_ = info.st_ino;
  directory.owner_ = info.st_uid;
  return directory;
}

OutputDirectory::OutputDirectory(OutputDirectory&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      inode_(other.inode_),
      owner_(other.owner_) {}

OutputDirectory& OutputDirectory::operator=(OutputDirectory&& other) noexcept {
  path_ = std::move(other.path_);
  std::swap(fd_, other.fd_);
  inode_ = other.inode_;
  owner_ = other.owner_;
  return *this;
}

OutputDirectory::~OutputDirectory() {
  if (fd_ >= 0) ::close(fd_);
}

Error OutputDirectory::Fault(const std::string& name, std::string_view what,
                             int error_number) const {
  const fs::path whole = name.empty() ? path_ : path_ / name;
  return SystemError(ErrorKind::kDestination, whole.string(), what, error_number);
}

Result<std::unique_ptr<OutputFile>> OutputDirectory::Create(const std::string& name) const {
  const auto [folder, leaf] = Split(name);
  const Descriptor parent = OpenFolder(fd_, folder, /*make=*/true);
  if (parent.get() < 0) return std::unexpected(Fault(name, "create", errno));
  return OutputFile::CreateAt(parent.get(), leaf, (path_ / name).string());
}

Result<> OutputDirectory::WriteText(const std::string& name, std::string_view text) const {
  RESHARD_ASSIGN(const auto file, Create(name));
  RESHARD_TRY(file->WriteAt(0, std::as_bytes(std::span(text))));
  return file->SyncAndClose();
}

Result<std::unique_ptr<OutputFile>> OutputDirectory::OpenToWrite(const std::string& name) const {
  const auto [folder, leaf] = Split(name);
  const Descriptor parent = OpenFolder(fd_, folder, /*make=*/false);
  if (parent.get() < 0) return std::unexpected(Fault(name, "open", errno));
  return OutputFile::OpenAt(parent.get(), leaf, (path_ / name).string());
}

Result<std::unique_ptr<InputFile>> OutputDirectory::OpenToRead(const std::string& name) const {
  const auto [folder, leaf] = Split(name);
  const Descriptor parent = OpenFolder(fd_, folder, /*make=*/false);
  if (parent.get() < 0) return std::unexpected(Fault(name, "open", errno));
  const int fd = Retry([&, &leaf = leaf] {
    return ::openat(parent.get(), leaf.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  });
  if (fd < 0) return std::unexpected(Fault(name, "open", errno));
  struct stat info;
  if (Retry([&] { return ::fstat(fd, &info); }) != 0 || info.st_nlink != 1) {
    ::close(fd);
    return std::unexpected(Error{.kind = ErrorKind::kDestination,
                                 .file = (path_ / name).string(),
                                 .found = "this file has other names, too",
                                 .expected = "a file of this directory alone"});
  }
  auto file = InputFile::Take(fd, (path_ / name).string());
  if (!file) file.error().kind = ErrorKind::kDestination;
  return file;
}

Result<> OutputDirectory::Rename(const std::string& from, const std::string& to) const {
  const auto [from_folder, from_leaf] = Split(from);
  const auto [to_folder, to_leaf] = Split(to);
  const Descriptor source = OpenFolder(fd_, from_folder, /*make=*/false);
  const Descriptor target = OpenFolder(fd_, to_folder, /*make=*/false);
  if (source.get() < 0 || target.get() < 0) return std::unexpected(Fault(to, "rename", errno));
  const int done = Retry([&, &from_leaf = from_leaf, &to_leaf = to_leaf] {
    return ::renameat(source.get(), from_leaf.c_str(), target.get(), to_leaf.c_str());
  });
  if (done != 0) return std::unexpected(Fault(to, "rename", errno));
  return {};
}

Result<> OutputDirectory::Remove(const std::string& name) const {
  const auto [folder, leaf] = Split(name);
  const Descriptor parent = OpenFolder(fd_, folder, /*make=*/false);
  if (parent.get() >= 0 && Retry([&, &leaf = leaf] {
                             return ::unlinkat(parent.get(), leaf.c_str(), 0);
                           }) == 0)
    return {};
  if (errno == ENOENT) return {};
  return std::unexpected(Fault(name, "delete", errno));
}

Result<> OutputDirectory::Sync(const std::string& folder) const {
  const Descriptor at = OpenFolder(fd_, folder, /*make=*/false);
  if (at.get() < 0) return std::unexpected(Fault(folder, "open", errno));
  // File systems without directory sync say EINVAL; there is nothing more to do on those.
  if (Retry([&] { return ::fsync(at.get()); }) != 0 && errno != EINVAL)
    return std::unexpected(Fault(folder, "sync", errno));
  return {};
}

Result<std::vector<OutputDirectory::Entry>> OutputDirectory::List(const std::string& folder) const {
  const Descriptor at = OpenFolder(fd_, folder, /*make=*/false);
  // A descriptor of its own: the stream closes it, and has its own place in the list.
  const int fd =
      at.get() < 0 ? -1 : Retry([&] { return ::openat(at.get(), ".", kFolder); });
  DIR* const stream = fd < 0 ? nullptr : ::fdopendir(fd);
  if (!stream) {
    const int error_number = errno;
    if (fd >= 0) ::close(fd);
    return std::unexpected(Fault(folder, "list", error_number));
  }
  std::vector<Entry> entries;
  int error_number = 0;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(stream);
    if (!entry && errno == EINTR) continue;
    if (!entry) error_number = errno;
    if (!entry) break;
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat info;
    if (Retry([&] { return ::fstatat(fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW); }) != 0) {
      if (errno == ENOENT) continue;  // gone meanwhile
      error_number = errno;
      break;
    }
    entries.push_back({name, S_ISDIR(info.st_mode), S_ISREG(info.st_mode)});
  }
  ::closedir(stream);
  if (error_number != 0) return std::unexpected(Fault(folder, "list", error_number));
  return entries;
}

}  // namespace reshard
