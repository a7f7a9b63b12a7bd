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
  static Result<std::unique_ptr<InputFile>> Open(const std::filesystem::path& path);
  ~InputFile() override;

  uint64_t size() const override { return size_; }
  const std::string& name() const override { return name_; }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override;

 private:
  InputFile(int fd, uint64_t size, std::string name)
      : fd_(fd), size_(size), name_(std::move(name)) {}
  int fd_;
  uint64_t size_;
  std::string name_;
};

/// A file opened for positioned writes, from several threads at once.
class OutputFile {
 public:
  /// Creates the file, or truncates what is there.
  static Result<std::unique_ptr<OutputFile>> Create(const std::filesystem::path& path);
  /// Opens a file that another process has created; its bytes stay.
  static Result<std::unique_ptr<OutputFile>> OpenExisting(const std::filesystem::path& path);
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
  OutputFile(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  int fd_;
  std::string name_;
};

/// Size, time and inode of a file; `relative` is what SourceFile::path becomes.
Result<SourceFile> StatFile(const std::filesystem::path& root, const std::string& relative);

/// A whole file as text; refused where it is larger than `max_bytes`.
Result<std::string> ReadTextFile(const std::filesystem::path& path, uint64_t max_bytes);

/// Writes a file whole and waits until it is on the disk.
Result<> WriteTextFile(const std::filesystem::path& path, std::string_view text);

/// The same for a file that may exist and be read: the new text appears whole, or not at all.
Result<> ReplaceTextFile(const std::filesystem::path& path, std::string_view text);

/// Waits until the directory's entries are on the disk.
Result<> SyncDirectory(const std::filesystem::path& path);

/// The files of a checkpoint directory, by index. Each is opened when it is first read; at most
/// `kMaxOpen` stay open. Safe to use from several threads.
class FileSet {
 public:
  explicit FileSet(std::filesystem::path root);
  ~FileSet();

  /// Registers a file and returns its index.
  uint32_t Add(std::string relative);
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
