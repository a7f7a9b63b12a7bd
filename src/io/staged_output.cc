#include "io/staged_output.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "base/try.h"
#include "io/directory.h"
#include "io/file.h"
#include "io/system_call.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxJournalBytes = uint64_t{64} << 20;
constexpr std::string_view kSwapWord = "commit ";

std::unexpected<Error> Fault(const fs::path& path, std::string_view what, int error_number) {
  return std::unexpected(
      SystemError(ErrorKind::kDestination, path.string(), what, error_number));
}

// What has this name, itself and not what it links to: 0 where there is nothing.
uint64_t InodeOf(const fs::path& path) {
  struct stat info;
  const bool there = Retry([&] { return ::lstat(path.c_str(), &info); }) == 0;
  return there ? info.st_ino : 0;
}

// Whether `path` is there, and holds anything. A directory that cannot be listed counts as full.
Result<bool> IsOccupied(const fs::path& path) {
  struct stat info;
  if (Retry([&] { return ::lstat(path.c_str(), &info); }) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return Fault(path, "look at this path", errno);
  }
  if (!S_ISDIR(info.st_mode)) return true;
  const auto names = ListDirectory(path, ErrorKind::kDestination);
  return !names || !names->empty();
}

int Rename(const fs::path& from, const fs::path& to) {
  return Retry([&] { return ::rename(from.c_str(), to.c_str()); });
}

// True where nothing is left of it; else errno says why.
bool RemoveAll(const fs::path& path) {
  std::error_code code;
  do fs::remove_all(path, code);
  while (code == std::errc::interrupted);
  errno = code.value();
  return !code;
}

// True where there is no such file any more.
bool Unlink(const fs::path& file) {
  return Retry([&] { return ::unlink(file.c_str()); }) == 0 || errno == ENOENT;
}

// As create_directories; a signal does not end it.
Result<> MakeDirectories(const fs::path& path) {
  std::error_code code;
  do fs::create_directories(path, code);
  while (code == std::errc::interrupted);
  if (code) return Fault(path, "create", code.value());
  return {};
}

// The destination as an absolute path without a slash behind it.
Result<fs::path> Normal(const fs::path& destination) {
  RESHARD_ASSIGN(const fs::path path, AbsolutePath(destination, ErrorKind::kDestination));
  return path.has_filename() ? path : path.parent_path();
}

fs::path StagingOf(const fs::path& destination, const std::string& id) {
  fs::path staging = destination;
  staging += fmt::format(".partial-{}", id.substr(0, 16));
  return staging;
}

fs::path With(const fs::path& path, std::string_view suffix) {
  fs::path whole = path;
  whole += suffix;
  return whole;
}

std::unexpected<Error> AnotherRun(const fs::path& path) {
  return std::unexpected(Error{.kind = ErrorKind::kDestination,
                               .file = path.string(),
                               .found = "another run is writing this output",
                               .expected = "one run for a destination",
                               .help = "wait for it, or stop it"});
}

// Something that no run has begun has the name of the staging directory.
std::unexpected<Error> NotOurs(const fs::path& staging, std::string found) {
  return std::unexpected(
      Error{.kind = ErrorKind::kDestination,
            .file = staging.string(),
            .found = std::move(found),
            .expected = "nothing of this name, or what an interrupted run of yours has left",
            .help = "look at what it holds, move it away or delete it, and run the same command "
                    "again"});
}

std::unexpected<Error> Appeared(const fs::path& destination) {
  return std::unexpected(Error{.kind = ErrorKind::kDestination,
                               .file = destination.string(),
                               .found = "the destination appeared during the run",
                               .expected = "a name that is free",
                               .help = "move it away and run the same command again: nothing needs "
                                       "to be written twice"});
}

Result<> RefuseStranger(const OutputDirectory& directory, const std::set<std::string>& files) {
  RESHARD_ASSIGN(const std::string stranger, FindStranger(directory, files));
  if (stranger.empty()) return {};
  return std::unexpected(
      Error{.kind = ErrorKind::kDestination,
            .file = (directory.path() / stranger).string(),
            .found = "this is no part of the output, and lies among its files",
            .expected = "nothing but what this run writes",
            .help = "look at what it is, move it away or delete it, and run the same command "
                    "again: finished files are kept"});
}

}  // namespace

Result<std::string> FindStranger(const OutputDirectory& directory,
                                 const std::set<std::string>& files) {
  std::set<std::string> folders;
  for (const std::string& file : files)
    for (size_t at = file.find('/'); at != std::string::npos; at = file.find('/', at + 1))
      folders.insert(file.substr(0, at));
  std::vector<std::string> open = {""};
  while (!open.empty()) {
    const std::string folder = std::move(open.back());
    open.pop_back();
    RESHARD_ASSIGN(const auto entries, directory.List(folder));
    for (const OutputDirectory::Entry& entry : entries) {
      const std::string name = folder.empty() ? entry.name : folder + "/" + entry.name;
      if (entry.is_folder ? !folders.contains(name) : !entry.is_file || !files.contains(name))
        return name;
      if (entry.is_folder) open.push_back(name);
    }
  }
  return std::string();
}

fs::path StagedOutput::Beside(std::string_view suffix) const { return With(staging_, suffix); }

Result<fs::path> StagedOutput::PathFor(const fs::path& destination, const std::string& id) {
  RESHARD_ASSIGN(const fs::path whole, Normal(destination));
  return StagingOf(whole, id);
}

// "commit <inode of the output> <inode of what it replaces>\n", the last line of a journal.
std::optional<StagedOutput::Swap> StagedOutput::ReadSwap(const fs::path& journal) {
  const auto text = ReadTextFile(journal, kMaxJournalBytes);
  if (!text || !text->ends_with('\n')) return std::nullopt;
  const size_t before = text->rfind('\n', text->size() - 2);
  std::string_view line = *text;
  if (before != std::string::npos) line.remove_prefix(before + 1);
  if (!line.starts_with(kSwapWord)) return std::nullopt;
  line.remove_prefix(kSwapWord.size());
  const char* const end = line.data() + line.size() - 1;
  Swap swap;
  const auto output = std::from_chars(line.data(), end, swap.output);
  if (output.ec != std::errc() || output.ptr == end || *output.ptr != ' ') return std::nullopt;
  const auto replaced = std::from_chars(output.ptr + 1, end, swap.replaced);
  if (replaced.ec != std::errc() || replaced.ptr != end || swap.output == 0) return std::nullopt;
  return swap;
}

// Settles what a run that was stopped between two renames has left, so that each name holds again
// what it stands for.
Result<> StagedOutput::GoBack(const fs::path& destination, const fs::path& staging) {
  const std::optional<Swap> swap = ReadSwap(With(staging, ".journal"));
  if (!swap || swap->replaced == 0) return {};
  const bool published = InodeOf(destination) == swap->output;
  if (!published && InodeOf(staging) != swap->output) return {};
  // Where that run is not stopped but at work, it holds the output's lock.
  RESHARD_ASSIGN(OutputDirectory output, OutputDirectory::Open(published ? destination : staging));
  RESHARD_TRY(Lock(output));
  const fs::path replaced = With(staging, ".replaced");
  if (published) {
    // The two were exchanged: the old one has the name of the staging directory.
    if (InodeOf(staging) == swap->replaced &&
        (!RemoveAll(replaced) || Rename(staging, replaced) != 0))
      return Fault(replaced, "replace", errno);
  } else if (InodeOf(destination) == 0 && InodeOf(replaced) == swap->replaced) {
    // There is no destination: the old one was taken away, the new one not yet put there.
    if (Rename(replaced, destination) != 0) return Fault(destination, "bring back", errno);
  }
  return {};
}

Result<StagedOutput> StagedOutput::Open(const fs::path& destination, const std::string& id,
                                        const Options& options) {
  RESHARD_ASSIGN(const fs::path whole, Normal(destination));
  const fs::path staging = StagingOf(whole, id);
  RESHARD_TRY(GoBack(whole, staging));
  RESHARD_ASSIGN(const bool occupied, IsOccupied(whole));
  if (occupied && !options.force)
    return std::unexpected(Error{.kind = ErrorKind::kDestination,
                                 .file = destination.string(),
                                 .found = "the destination exists",
                                 .expected = "a name that is free, or an empty directory",
                                 .help = "choose another name, or replace it with --force"});
  RESHARD_TRY(MakeDirectories(whole.parent_path()));
  const bool is_new = Retry([&] { return ::mkdir(staging.c_str(), 0777); }) == 0;
  if (!is_new && errno != EEXIST) return Fault(staging, "create", errno);
  auto directory = OutputDirectory::Open(staging);
  if (!directory && fs::path(directory.error().file) == staging && InodeOf(staging) != 0)
    return NotOurs(staging, directory.error().found);
  if (!directory) return std::unexpected(std::move(directory).error());
  StagedOutput output(whole, staging, *std::move(directory));
  output.options_ = options;
  RESHARD_TRY(Lock(output.directory_));
  RESHARD_TRY(output.TakeOver(is_new, options));
  return output;
}

// Takes the lock of a directory, for as long as it is open.
Result<> StagedOutput::Lock(const OutputDirectory& directory) {
  const int locked = Retry([&] { return ::flock(directory.descriptor(), LOCK_EX | LOCK_NB); });
  // File systems without locks (some NFS mounts) say so; then nothing guards, as with any tool.
  if (locked != 0 && errno == EWOULDBLOCK) return AnotherRun(directory.path());
  // Between opening and locking another run may have finished, and given the directory its name.
  if (InodeOf(directory.path()) != directory.inode()) return AnotherRun(directory.path());
  return {};
}

// Makes sure that the directory is one that a run has begun, and puts it in order.
Result<> StagedOutput::TakeOver(bool is_new, const Options& options) {
  if (!is_new && directory_.owner() != ::geteuid())
    return NotOurs(staging_, "this directory belongs to another user");
  const std::string journal(kJournalName);
  if (const auto swap = ReadSwap(committed_journal())) {
    if (swap->output == directory_.inode()) {
      // Stopped before the output got its name: it is unfinished again.
      if (Rename(committed_journal(), staging_ / journal) != 0)
        return Fault(committed_journal(), "rename", errno);
    } else if (!Unlink(committed_journal())) {
      return Fault(committed_journal(), "delete", errno);
    }
  }
  RESHARD_ASSIGN(const auto entries, directory_.List());
  bool marked = false;
  for (const OutputDirectory::Entry& entry : entries)
    marked = marked || (entry.name == journal && entry.is_file);
  if (!marked && !entries.empty())
    return NotOurs(staging_, "this directory has the name of the unfinished output, and no run of "
                             "reshard has begun it");
  if (!options.resume)
    for (const OutputDirectory::Entry& entry : entries)
      if (entry.name != journal && !RemoveAll(staging_ / entry.name))
        return Fault(staging_ / entry.name, "delete", errno);
  if (marked && options.resume) return {};
  RESHARD_TRY(directory_.Create(journal));
  return {};
}

Result<std::optional<StagedOutput>> StagedOutput::FindCommitted(const fs::path& destination,
                                                                const std::string& id) {
  RESHARD_ASSIGN(const fs::path whole, Normal(destination));
  const fs::path staging = StagingOf(whole, id);
  const std::optional<Swap> swap = ReadSwap(With(staging, ".journal"));
  if (!swap || InodeOf(whole) != swap->output) return std::nullopt;
  RESHARD_ASSIGN(OutputDirectory directory, OutputDirectory::Open(whole));
  StagedOutput output(whole, staging, std::move(directory));
  output.swap_ = *swap;
  RESHARD_TRY(Lock(output.directory_));
  return output;
}

Result<uint64_t> StagedOutput::FreeBytes() const {
  struct statvfs info;
  if (Retry([&] { return ::fstatvfs(directory_.descriptor(), &info); }) != 0)
    return Fault(path(), "measure free space", errno);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

Result<> StagedOutput::CheckRoom(uint64_t needed) const {
  RESHARD_ASSIGN(const uint64_t available, FreeBytes());
  if (needed <= available) return {};
  return std::unexpected(
      Error{.kind = ErrorKind::kDestination,
            .file = path().string(),
            .found = fmt::format("{} bytes are free on this file system", available),
            .expected = fmt::format("{} bytes for the output", needed),
            .help = "free some space, or choose a destination on another file system"});
}

bool StagedOutput::replaces() const { return IsOccupied(destination_).value_or(true); }

StagedOutput::Leftovers StagedOutput::LeftByOthers() const {
  Leftovers leftovers;
  const std::string prefix = destination_.filename().string() + ".partial-";
  const std::string own = staging_.filename().string();
  // What cannot be listed cannot be warned of.
  const auto names = ListDirectory(destination_.parent_path(), ErrorKind::kDestination);
  for (const std::string& name : names.value_or(std::vector<std::string>())) {
    if (!name.starts_with(prefix) || name.starts_with(own)) continue;
    (name.ends_with(".replaced") ? leftovers.replaced : leftovers.staged)
        .push_back(destination_.parent_path() / name);
  }
  return leftovers;
}

Result<> StagedOutput::CheckNothingElse(const std::set<std::string>& files) const {
  std::set<std::string> allowed = {std::string(kJournalName)};
  for (const std::string& file : files) {
    allowed.insert(file);
    allowed.insert(file + std::string(kStagedSuffix));
  }
  return RefuseStranger(directory_, allowed);
}

void StagedOutput::Abandon() {
  if (InodeOf(staging_) != directory_.inode()) return;
  RemoveAll(staging_);
  Unlink(committed_journal());  // where Commit has failed
}

// Puts the journal beside the directory, with a line that says which directory becomes which: so a
// run that finds it knows what has happened, whatever is there.
Result<> StagedOutput::NoteSwap() {
  const std::string journal(kJournalName);
  RESHARD_ASSIGN(const auto known, directory_.OpenToRead(journal));
  RESHARD_ASSIGN(const auto file, directory_.OpenToWrite(journal));
  const std::string line = fmt::format("{}{} {}\n", kSwapWord, swap_.output, swap_.replaced);
  RESHARD_TRY(file->WriteAt(known->size(), std::as_bytes(std::span(line))));
  RESHARD_TRY(file->SyncAndClose());
  if (Rename(staging_ / journal, committed_journal()) != 0)
    return Fault(committed_journal(), "create", errno);
  RESHARD_TRY(directory_.Sync());
  return SyncDirectory(staging_.parent_path());
}

Result<> StagedOutput::Commit(const std::set<std::string>& files) {
  std::set<std::string> allowed = files;
  allowed.insert(std::string(kJournalName));
  RESHARD_TRY(RefuseStranger(directory_, allowed));
  if (InodeOf(staging_) != directory_.inode())
    return NotOurs(staging_, "the unfinished output has been moved away during the run");
  RESHARD_TRY(directory_.Sync());
  // Checked again: it may have appeared while the files were being written.
  RESHARD_ASSIGN(const bool replacing, IsOccupied(destination_));
  if (replacing && !options_.force) return Appeared(destination_);
  if (!RemoveAll(Beside(".replaced")))
    return std::unexpected(Error{.kind = ErrorKind::kDestination,
                                 .file = Beside(".replaced").string(),
                                 .found = "an output that was replaced earlier cannot be deleted",
                                 .expected = "this name to be free",
                                 .help = "delete it, and run the same command again: nothing needs "
                                         "to be written twice"});
  swap_ = {.output = directory_.inode(), .replaced = replacing ? InodeOf(destination_) : 0};
  RESHARD_TRY(NoteSwap());
  RESHARD_TRY(Publish());
  directory_.MovedTo(destination_);
  auto synced = SyncDirectory(destination_.parent_path());
  if (!synced) {
    synced.error().file = destination_.string();
    synced.error().found += "; the output is complete and has its name, but a power failure could "
                            "still take that away";
    synced.error().help = "run the same command again: it makes sure of the name and ends";
  }
  return synced;
}

Result<> StagedOutput::Publish() {
  if (swap_.replaced == 0) {
    if (Rename(staging_, destination_) == 0) return {};
    if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR) return Appeared(destination_);
    return Fault(destination_, "create", errno);
  }
  // One step where the file system can exchange names; else there is a moment without a
  // destination, but never one without either directory.
  if (Retry([&] {
        return ::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, destination_.c_str(),
                           RENAME_EXCHANGE);
      }) == 0)
    return {};
  const fs::path replaced = Beside(".replaced");
  if (Rename(destination_, replaced) != 0) return Fault(destination_, "replace", errno);
  if (Rename(staging_, destination_) == 0) return {};
  const int error_number = errno;
  (void)Rename(replaced, destination_);  // Where even this fails, the next run does it.
  return Fault(destination_, "replace", error_number);
}

std::vector<fs::path> StagedOutput::Finish() {
  std::vector<fs::path> left;
  const fs::path replaced = Beside(".replaced");
  const uint64_t staged = swap_.replaced == 0 ? 0 : InodeOf(staging_);
  if (swap_.replaced != 0 && staged == 0 && errno != ENOENT) {
    // It cannot be looked at now. The journal stays: by it the next run knows what this is.
    left.push_back(staging_);
    return left;
  }
  // A fresh name first: what has the staging directory's name must be a staging directory.
  if (staged != 0 && staged == swap_.replaced &&
      (!RemoveAll(replaced) || Rename(staging_, replaced) != 0) && !RemoveAll(staging_))
    left.push_back(staging_);
  if (!RemoveAll(replaced)) left.push_back(replaced);
  if (!Unlink(committed_journal()))
    left.push_back(committed_journal());
  return left;
}

}  // namespace reshard
