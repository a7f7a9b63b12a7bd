#include "io/staged_output.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "base/try.h"
#include "io/file.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// Whether `path` is there, and holds anything.
bool IsOccupied(const fs::path& path) {
  std::error_code code;
  const fs::file_status status = fs::symlink_status(path, code);
  if (status.type() == fs::file_type::not_found) return false;
  if (status.type() != fs::file_type::directory) return true;
  return !fs::is_empty(path, code) || code;
}

// The destination as an absolute path without a slash behind it.
fs::path Normal(const fs::path& destination) {
  fs::path path = fs::absolute(destination).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

fs::path StagedOutput::PathFor(const fs::path& destination, const std::string& id) {
  fs::path staging = Normal(destination);
  staging += fmt::format(".partial-{}", id.substr(0, 16));
  return staging;
}

Result<StagedOutput> StagedOutput::Open(const fs::path& destination, const std::string& id,
                                        const Options& options) {
  StagedOutput output;
  output.options_ = options;
  output.destination_ = Normal(destination);
  output.staging_ = PathFor(destination, id);

  if (IsOccupied(output.destination_) && !options.force)
    return std::unexpected(Error{.kind = ErrorKind::kDestination,
                                 .file = destination.string(),
                                 .found = "the destination exists",
                                 .expected = "a name that is free, or an empty directory",
                                 .help = "choose another name, or replace it with --force"});
  std::error_code code;
  fs::create_directories(output.destination_.parent_path(), code);
  if (!code) fs::create_directory(output.staging_, code);
  if (code)
    return std::unexpected(SystemError(ErrorKind::kDestination, output.staging_.string(),
                                       "create", code.value()));
  output.lock_ = ::open(output.staging_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (output.lock_ < 0)
    return std::unexpected(
        SystemError(ErrorKind::kDestination, output.staging_.string(), "open", errno));
  // File systems without locks (some NFS mounts) say so; then nothing guards, as with any tool.
  if (::flock(output.lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return std::unexpected(Error{.kind = ErrorKind::kDestination,
                                 .file = output.staging_.string(),
                                 .found = "another run is writing this output",
                                 .expected = "one run for a destination",
                                 .help = "wait for it, or stop it"});
  if (!options.resume)
    for (const fs::directory_entry& entry : fs::directory_iterator(output.staging_, code))
      fs::remove_all(entry.path(), code);
  return output;
}

StagedOutput::StagedOutput(StagedOutput&& other) noexcept
    : destination_(std::move(other.destination_)),
      staging_(std::move(other.staging_)),
      options_(other.options_),
      lock_(std::exchange(other.lock_, -1)) {}

StagedOutput::~StagedOutput() {
  if (lock_ >= 0) ::close(lock_);
}

Result<uint64_t> StagedOutput::FreeBytes() const {
  struct statvfs info;
  if (::statvfs(staging_.c_str(), &info) != 0)
    return std::unexpected(
        SystemError(ErrorKind::kDestination, staging_.string(), "measure free space", errno));
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

Result<> StagedOutput::CheckRoom(uint64_t needed) const {
  RESHARD_ASSIGN(const uint64_t available, FreeBytes());
  if (needed <= available) return {};
  return std::unexpected(
      Error{.kind = ErrorKind::kDestination,
            .file = staging_.string(),
            .found = fmt::format("{} bytes are free on this file system", available),
            .expected = fmt::format("{} bytes for the output", needed),
            .help = "free some space, or choose a destination on another file system"});
}

bool StagedOutput::replaces() const { return IsOccupied(destination_); }

std::vector<fs::path> StagedOutput::LeftByOthers() const {
  std::vector<fs::path> others;
  const std::string prefix = destination_.filename().string() + ".partial-";
  std::error_code code;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(destination_.parent_path(), code))
    if (entry.path().filename().string().starts_with(prefix) && entry.path() != staging_)
      others.push_back(entry.path());
  return others;
}

void StagedOutput::Abandon() {
  std::error_code ignored;
  fs::remove_all(staging_, ignored);
}

Result<> StagedOutput::Commit() {
  RESHARD_TRY(SyncDirectory(staging_));
  if (IsOccupied(destination_)) {
    // Checked again: it may have appeared while the files were being written.
    if (!options_.force)
      return std::unexpected(Error{.kind = ErrorKind::kDestination,
                                   .file = destination_.string(),
                                   .found = "the destination appeared during the run",
                                   .expected = "a name that is free",
                                   .help = "move it away and run the same command again: nothing "
                                           "needs to be written twice"});
    fs::path old = staging_;
    old += ".replaced";
    std::error_code code;
    fs::remove_all(old, code);  // A run that was stopped right here left it.
    // One step where the file system can exchange names; else there is a moment without a
    // destination, but never one without either directory.
    if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, destination_.c_str(),
                    RENAME_EXCHANGE) == 0) {
      fs::rename(staging_, old, code);
    } else {
      fs::rename(destination_, old, code);
      if (!code) fs::rename(staging_, destination_, code);
    }
    if (code)
      return std::unexpected(SystemError(ErrorKind::kDestination, destination_.string(),
                                         "replace", code.value()));
    RESHARD_TRY(SyncDirectory(destination_.parent_path()));
    fs::remove_all(old, code);
    return {};
  }
  if (::rename(staging_.c_str(), destination_.c_str()) != 0)
    return std::unexpected(
        SystemError(ErrorKind::kDestination, destination_.string(), "create", errno));
  return SyncDirectory(destination_.parent_path());
}

}  // namespace reshard
