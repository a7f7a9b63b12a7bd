#ifndef RESHARD_IO_FILE_H_
#define RESHARD_IO_FILE_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "reshard/catalog.h"
#include "reshard/error.h"

namespace reshard {

/// The error for a failed system call: `what` names the action ("open", "write"), `error_number`
/// is its errno.
Error SystemError(ErrorKind kind, const std::string& path, std::string_view what,
                  int error_number);

/// A file opened for positioned reads. Never mapped: a file that shrinks gives an error, not a
/// signal.
class InputFile final : public ByteSource {
 public:
  /// Only a regular file is opened. `error_number`, if any, becomes what the system said.
  static Result<std::unique_ptr<InputFile>> Open(const std::filesystem::path& path,
                                                 int* error_number = nullptr);
  /// Of an open descriptor, which is taken over. `name` is its path, for errors.
  static Result<std::unique_ptr<InputFile>> Take(int fd, std::string name);
  ~InputFile() override;

  uint64_t size() const override { return state_.size; }
  const std::string& name() const override { return state_.path; }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override;

  /// What the file was when it was opened; the path is its name.
  const SourceFile& state() const { return state_; }

 private:
  InputFile(int fd, SourceFile state) : fd_(fd), state_(std::move(state)) {}
  int fd_;
  SourceFile state_;
};

/// A file opened for positioned writes, from several threads at once.
class OutputFile {
 public:
  /// Makes a new file. A file or link that has the name is removed, not written to: it may be
  /// another name of a file elsewhere.
  static Result<std::unique_ptr<OutputFile>> Create(const std::filesystem::path& path);
  /// The same in an open directory; `name` is the whole path, for errors.
  static Result<std::unique_ptr<OutputFile>> CreateAt(int directory, const std::string& leaf,
                                                      std::string name);
  /// Opens a file that another process has created; its bytes stay. A link is refused.
  static Result<std::unique_ptr<OutputFile>> OpenExisting(const std::filesystem::path& path);
  static Result<std::unique_ptr<OutputFile>> OpenAt(int directory, const std::string& leaf,
                                                    std::string name);
  /// Of an open descriptor, which is taken over.
  OutputFile(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  Result<> WriteAt(uint64_t offset, std::span<const std::byte> bytes);
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const;
  /// Gives the file a size; what has not been written reads as zeros.
  Result<> Resize(uint64_t size);
  /// Asks the system to begin writing a part to the disk, so that Sync has less to wait for.
  void StartWriteback(uint64_t offset, uint64_t length);
  /// Waits until the bytes are on the disk.
  Result<> Sync();
  /// Sync, then close.
  Result<> SyncAndClose();

 private:
  int fd_;
  std::string name_;
};

/// Size, time and inode of a file; `relative` is what SourceFile::path becomes.
Result<SourceFile> StatFile(const std::filesystem::path& root, const std::string& relative);

/// An error of kind kSource, for the second, where two states of one path are not the same: another
/// size, time or inode.
Result<> CompareStates(const SourceFile& before, const SourceFile& now);

/// An error of kind kSource where a file is another one now than `before` says, which StatFile
/// found with the same `root`.
Result<> CheckUnchanged(const std::filesystem::path& root, const SourceFile& before);

/// When a file, its name, owner or mode was changed last, in nanoseconds since 1970.
Result<int64_t> LastChange(const std::filesystem::path& path);

/// A whole file as text; refused where it is larger than `max_bytes`.
Result<std::string> ReadTextFile(const std::filesystem::path& path, uint64_t max_bytes);

/// Writes a file whole and waits until it is on the disk.
Result<> WriteTextFile(const std::filesystem::path& path, std::string_view text);

/// The same for a file that may exist and be read: the new text appears whole, or not at all.
Result<> ReplaceTextFile(const std::filesystem::path& path, std::string_view text);

/// Waits until the directory's entries are on the disk.
Result<> SyncDirectory(const std::filesystem::path& path);

/// The files of a checkpoint directory, by index. Each is opened when it is first read; at most 512
/// stay open, or half of what the process may have, and fewer where the rest is used up. Safe to use
/// from several threads.
class FileSet {
 public:
  explicit FileSet(std::filesystem::path root);
  ~FileSet();

  /// Registers a file and returns its index. Opening it is an error of kind kSource where it is no
  /// longer what StatFile has found.
  uint32_t Add(SourceFile file);
  size_t count() const;
  /// The file, held open as long as the pointer lives.
  Result<std::shared_ptr<const InputFile>> Open(uint32_t index) const;
  Result<> ReadAt(uint32_t index, uint64_t offset, std::span<std::byte> out) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace reshard

#endif  // RESHARD_IO_FILE_H_
