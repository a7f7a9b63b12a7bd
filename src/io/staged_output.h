#ifndef RESHARD_IO_STAGED_OUTPUT_H_
#define RESHARD_IO_STAGED_OUTPUT_H_

#include <filesystem>
#include <string>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// A directory that becomes visible under its name only when it is complete. Until Commit all
/// files lie in `<destination>.partial-<id>`, which survives a crash; a run with the same id finds
/// it again.
class StagedOutput {
 public:
  struct Options {
    bool force = false;   ///< replace a destination that exists
    bool resume = true;   ///< keep what an earlier run with this id has left
  };

  /// Errors are of kind kDestination: the destination exists (an empty directory does not count),
  /// another run works on it, it cannot be created.
  static Result<StagedOutput> Open(const std::filesystem::path& destination, const std::string& id,
                                   const Options& options);
  /// Where the files of an output lie until Commit.
  static std::filesystem::path PathFor(const std::filesystem::path& destination,
                                       const std::string& id);
  StagedOutput(StagedOutput&& other) noexcept;
  StagedOutput& operator=(StagedOutput&&) = delete;
  /// Leaves the staged files where they are, unless there are none worth keeping (see Abandon).
  ~StagedOutput();

  const std::filesystem::path& path() const { return staging_; }

  /// Bytes that may still be written to the file system.
  Result<uint64_t> FreeBytes() const;

  /// An error of kind kDestination where fewer are free than `needed`.
  Result<> CheckRoom(uint64_t needed) const;

  /// True where the destination holds something that Commit will replace.
  bool replaces() const;

  /// Directories that earlier runs with other ids have left for this destination.
  std::vector<std::filesystem::path> LeftByOthers() const;

  /// Removes the staged files: nothing in them is worth resuming.
  void Abandon();

  /// Makes the directory durable and gives it its name; replaces what was there, if allowed.
  Result<> Commit();

 private:
  StagedOutput() = default;
  std::filesystem::path destination_;
  std::filesystem::path staging_;
  Options options_;
  int lock_ = -1;  // a lock on the staging directory, held while this object lives
};

}  // namespace reshard

#endif  // RESHARD_IO_STAGED_OUTPUT_H_
