#ifndef RESHARD_IO_OUTPUT_DIRECTORY_H_
#define RESHARD_IO_OUTPUT_DIRECTORY_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/file.h"
#include "reshard/error.h"

namespace reshard {

/// A directory that is held open. Names are relative to it, with '/' between folders, and no part
/// of one may be a link: so what is written to it lies in it, whatever others do to its path or put
/// into it. Safe to use from several threads. Errors are of kind kDestination.
class OutputDirectory {
 public:
  /// `path` itself may not be a link either.
  static Result<OutputDirectory> Open(const std::filesystem::path& path);
  OutputDirectory(OutputDirectory&& other) noexcept;
  OutputDirectory& operator=(OutputDirectory&& other) noexcept;
  ~OutputDirectory();

  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return fd_; }
  uint64_t inode() const { return inode_; }
  uint32_t owner() const { return owner_; }  ///< a user's number

  /// The directory has been renamed.
  void MovedTo(std::filesystem::path path) { path_ = std::move(path); }

  /// Makes a new file, and the folders above it. A file or link that has the name is removed, not
  /// written to: it may be another name of a file elsewhere.
  Result<std::unique_ptr<OutputFile>> Create(const std::string& name) const;
  /// Makes a new file of these bytes, and waits until they are on the disk.
  Result<> WriteText(const std::string& name, std::string_view text) const;
  /// Opens a file that is there, to be written; its bytes stay.
  Result<std::unique_ptr<OutputFile>> OpenToWrite(const std::string& name) const;
  /// Opens a file that is there under this name alone: one with other names is refused, as whoever
  /// has those could change it later.
  Result<std::unique_ptr<InputFile>> OpenToRead(const std::string& name) const;

  Result<> Rename(const std::string& from, const std::string& to) const;
  /// No error where there is no such file.
  Result<> Remove(const std::string& name) const;
  /// Waits until the entries of a folder are on the disk; of the directory itself by default.
  Result<> Sync(const std::string& folder = "") const;

  struct Entry {
    std::string name;
    bool is_folder = false;
    bool is_file = false;  ///< a regular one; neither for a link
  };
  /// What lies in a folder, or in the directory itself.
  Result<std::vector<Entry>> List(const std::string& folder = "") const;

 private:
  OutputDirectory() = default;
  Error Fault(const std::string& name, std::string_view what, int error_number) const;

  std::filesystem::path path_;
  int fd_ = -1;
  uint64_t inode_ = 0;
  uint32_t owner_ = 0;
};

}  // namespace reshard

#endif  // RESHARD_IO_OUTPUT_DIRECTORY_H_
