#include "io/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "base/checked_math.h"
#include "base/try.h"
#include "io/system_call.h"

namespace reshard {
namespace {

// The kernel transfers at most 0x7ffff000 bytes a call; a smaller step keeps signals prompt.
constexpr size_t kMaxTransfer = size_t{1} << 30;

Result<> ReadFully(int fd, const std::string& name, uint64_t size, uint64_t offset,
                   std::span<std::byte> out) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(fd, out.data() + done, std::min(out.size() - done, kMaxTransfer),
                              static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      Error error = SystemError(ErrorKind::kSource, name, "read", errno);
      error.offset = offset + done;
      return std::unexpected(std::move(error));
    }
    if (n == 0)
      return std::unexpected(
          Error{.kind = ErrorKind::kSource,
                .file = name,
                .offset = offset + done,
                .found = "the file ended while it was being read",
                .expected = fmt::format("{} bytes, as when it was opened", size),
                .help = "something else is writing to the source: wait until it has finished"});
    done += static_cast<size_t>(n);
  }
  return {};
}

// What the system says of a file that must be a regular one.
Result<SourceFile> StateOf(const struct stat& info, const std::string& path) {
  if (!S_ISREG(info.st_mode))
    return std::unexpected(Error{.kind = ErrorKind::kSource,
                                 .file = path,
                                 .found = "this is not a regular file",
                                 .expected = "a file of a checkpoint"});
  return SourceFile{.path = path,
                    .size = static_cast<uint64_t>(info.st_size),
                    .mtime_ns = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec,
                    .inode = info.st_ino};
}

}  // namespace

Error SystemError(ErrorKind kind, const std::string& path, std::string_view what,
                  int error_number) {
  Error error{.kind = kind,
              .file = path,
              .found = fmt::format("cannot {}: {}", what, std::strerror(error_number))};
  if (error_number == ENOSPC || error_number == EDQUOT)
    error.help = "free some space and run the same command again: it goes on where it stopped";
  if (error_number == EMFILE || error_number == ENFILE)
    error.help = "raise the limit on open files: ulimit -n 4096";
  return error;
}

Result<std::unique_ptr<InputFile>> InputFile::Open(const std::filesystem::path& path,
                                                   int* error_number) {
  // A FIFO would wait for a writer: it is opened at once, and then refused.
  const int fd =
      Retry([&] { return ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC); });
  if (fd >= 0) return Take(fd, path.string());
  if (error_number) *error_number = errno;
  return std::unexpected(SystemError(ErrorKind::kSource, path.string(), "open", errno));
}

Result<std::unique_ptr<InputFile>> InputFile::Take(int fd, std::string name) {
  struct stat info;
  if (Retry([&] { return ::fstat(fd, &info); }) != 0) {
    const int error_number = errno;
    ::close(fd);
    return std::unexpected(SystemError(ErrorKind::kSource, name, "look at", error_number));
  }
  auto state = StateOf(info, name);
  if (!state) {
    ::close(fd);
    return std::unexpected(std::move(state).error());
  }
  return std::unique_ptr<InputFile>(new InputFile(fd, *std::move(state)));
}

InputFile::~InputFile() { ::close(fd_); }

Result<> InputFile::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  if (!InRange(offset, out.size(), size()))
    return std::unexpected(PastEndError(name(), offset, out.size(), size()));
  return ReadFully(fd_, name(), size(), offset, out);
}

Result<std::unique_ptr<OutputFile>> OutputFile::Create(const std::filesystem::path& path) {
  return CreateAt(AT_FDCWD, path.string(), path.string());
}

Result<std::unique_ptr<OutputFile>> OutputFile::CreateAt(int directory, const std::string& leaf,
                                                         std::string name) {
  const auto create = [&] {
    return Retry([&] {
      return ::openat(directory, leaf.c_str(),
                      O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    });
  };
  int fd = create();
  if (fd < 0 && errno == EEXIST) {
    struct stat info;
    const bool there =
        Retry([&] { return ::fstatat(directory, leaf.c_str(), &info, AT_SYMLINK_NOFOLLOW); }) == 0;
    if (there && !S_ISREG(info.st_mode) && !S_ISLNK(info.st_mode))
      return std::unexpected(Error{.kind = ErrorKind::kDestination,
                                   .file = std::move(name),
                                   .found = "something that is no file has this name",
                                   .expected = "a name that is free",
                                   .help = "look at what it is, and move it away"});
    if (Retry([&] { return ::unlinkat(directory, leaf.c_str(), 0); }) != 0 && errno != ENOENT)
      return std::unexpected(SystemError(ErrorKind::kDestination, name, "replace", errno));
    fd = create();
  }
  if (fd < 0) return std::unexpected(SystemError(ErrorKind::kDestination, name, "create", errno));
  return std::make_unique<OutputFile>(fd, std::move(name));
}

Result<std::unique_ptr<OutputFile>> OutputFile::OpenExisting(const std::filesystem::path& path) {
  return OpenAt(AT_FDCWD, path.string(), path.string());
}

Result<std::unique_ptr<OutputFile>> OutputFile::OpenAt(int directory, const std::string& leaf,
                                                       std::string name) {
  const int fd = Retry([&] {
    return ::openat(directory, leaf.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  });
  if (fd < 0) return std::unexpected(SystemError(ErrorKind::kDestination, name, "open", errno));
  auto file = std::make_unique<OutputFile>(fd, name);
  struct stat info;
  if (Retry([&] { return ::fstat(fd, &info); }) != 0 || !S_ISREG(info.st_mode))
    return std::unexpected(Error{.kind = ErrorKind::kDestination,
                                 .file = std::move(name),
                                 .found = "this is not a regular file",
                                 .expected = "a file of this output"});
  return file;
}

Result<> OutputFile::Resize(uint64_t size) {
  if (Retry([&] { return ::ftruncate(fd_, static_cast<off_t>(size)); }) == 0) return {};
  return std::unexpected(SystemError(ErrorKind::kDestination, name_, "resize", errno));
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<> OutputFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd_, bytes.data() + done, std::min(bytes.size() - done, kMaxTransfer),
                 static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      Error error = SystemError(ErrorKind::kDestination, name_, "write", n == 0 ? ENOSPC : errno);
      error.offset = offset + done;
      return std::unexpected(std::move(error));
    }
    done += static_cast<size_t>(n);
  }
  return {};
}

Result<> OutputFile::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  auto read = ReadFully(fd_, name_, offset + out.size(), offset, out);
  if (!read) read.error().kind = ErrorKind::kDestination;
  return read;
}

void OutputFile::StartWriteback(uint64_t offset, uint64_t length) {
  // A hint: where it is not understood, Sync does all the work.
  (void)::sync_file_range(fd_, static_cast<off64_t>(offset), static_cast<off64_t>(length),
                          SYNC_FILE_RANGE_WRITE);
}

Result<> OutputFile::Sync() {
  if (Retry([&] { return ::fsync(fd_); }) != 0)
    return std::unexpected(SystemError(ErrorKind::kDestination, name_, "sync", errno));
  return {};
}

Result<> OutputFile::SyncAndClose() {
  RESHARD_TRY(Sync());
  const int fd = std::exchange(fd_, -1);
  // Some file systems (NFS) report a failed write only here.
  if (::close(fd) != 0 && errno != EINTR)
    return std::unexpected(SystemError(ErrorKind::kDestination, name_, "close", errno));
  return {};
}

Result<SourceFile> StatFile(const std::filesystem::path& root, const std::string& relative) {
  const std::filesystem::path path = root / relative;
  struct stat info;
  if (Retry([&] { return ::stat(path.c_str(), &info); }) != 0)
    return std::unexpected(SystemError(ErrorKind::kSource, path.string(), "open", errno));
  RESHARD_ASSIGN(SourceFile state, StateOf(info, path.string()));
  state.path = relative;
  return state;
}

Result<> CompareStates(const SourceFile& before, const SourceFile& now) {
  Error error{.kind = ErrorKind::kSource,
              .file = now.path,
              .expected = "a file that nothing writes to while it is read",
              .help = "wait until nothing changes it, and run the same command again"};
  if (now.size != before.size)
    error.found = fmt::format("the file has {} bytes, and had {} when it was first looked at",
                              now.size, before.size);
  else if (now.inode != before.inode)
    error.found = "another file has taken the place of the one that was first looked at";
  else if (now.mtime_ns != before.mtime_ns)
    error.found = "the file has been written to since it was first looked at";
  else
    return {};
  return std::unexpected(std::move(error));
}

Result<> CheckUnchanged(const std::filesystem::path& root, const SourceFile& before) {
  // Opened, because network file systems ask their server then, and believe old answers else.
  const auto now = InputFile::Open(root / before.path);
  if (now) return CompareStates(before, (*now)->state());
  Error error = now.error();
  error.expected = "the file that was first looked at";
  error.help = "wait until nothing changes the source, and run the same command again";
  return std::unexpected(std::move(error));
}

Result<int64_t> LastChange(const std::filesystem::path& path) {
  struct stat info;
  if (Retry([&] { return ::stat(path.c_str(), &info); }) != 0)
    return std::unexpected(SystemError(ErrorKind::kSource, path.string(), "look at", errno));
  const auto nanoseconds = [](const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return std::max(nanoseconds(info.st_mtim), nanoseconds(info.st_ctim));
}

Result<std::string> ReadTextFile(const std::filesystem::path& path, uint64_t max_bytes) {
  RESHARD_ASSIGN(auto file, InputFile::Open(path));
  if (file->size() > max_bytes)
    return std::unexpected(Error{.kind = ErrorKind::kSource,
                                 .file = path.string(),
                                 .found = fmt::format("the file has {} bytes", file->size()),
                                 .expected = fmt::format("at most {} bytes", max_bytes)});
  std::string text(file->size(), '\0');
  RESHARD_TRY(file->ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

Result<> WriteTextFile(const std::filesystem::path& path, std::string_view text) {
  RESHARD_ASSIGN(auto file, OutputFile::Create(path));
  RESHARD_TRY(file->WriteAt(0, std::as_bytes(std::span(text))));
  return file->SyncAndClose();
}

Result<> ReplaceTextFile(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::path staged = path;
  staged += ".partial";
  RESHARD_TRY(WriteTextFile(staged, text));
  if (Retry([&] { return ::rename(staged.c_str(), path.c_str()); }) != 0)
    return std::unexpected(SystemError(ErrorKind::kDestination, path.string(), "replace", errno));
  return SyncDirectory(path.parent_path());
}

Result<> SyncDirectory(const std::filesystem::path& path) {
  const int fd =
      Retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  if (fd < 0)
    return std::unexpected(SystemError(ErrorKind::kDestination, path.string(), "open", errno));
  const int result = Retry([&] { return ::fsync(fd); });
  const int error_number = errno;
  ::close(fd);
  // File systems without directory sync say EINVAL; there is nothing more to do on those.
  if (result != 0 && error_number != EINVAL)
    return std::unexpected(
        SystemError(ErrorKind::kDestination, path.string(), "sync", error_number));
  return {};
}

}  // namespace reshard
