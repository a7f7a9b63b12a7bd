#ifndef RESHARD_IO_STAGED_OUTPUT_H_
#define RESHARD_IO_STAGED_OUTPUT_H_

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/output_directory.h"
#include "reshard/error.h"

namespace reshard {

/// The file by which a staging directory is told from all others. It says what is finished; until
/// then it is empty. Never a part of an output.
inline constexpr std::string_view kJournalName = ".reshard-journal";

/// What a staged file's name ends with until the whole output is complete.
inline constexpr std::string_view kStagedSuffix = ".partial";

/// The first thing in a directory that is none of `files` and no folder above one; empty where
/// there is no such thing. Names in folders have '/'.
Result<std::string> FindStranger(const OutputDirectory& directory,
                                 const std::set<std::string>& files);

/// A directory that becomes visible under its name only when it is complete. For a destination
/// `out` there are, beside it and with the same id in their names:
///
///   out.partial-<id>           the staging directory, with its journal: all files lie here at first
///   out.partial-<id>.journal   the journal from Commit to Finish; its last line says which directory
///                              becomes the output, and which one that replaces
///   out.partial-<id>.replaced  what was replaced, until it is deleted
///
/// All survive a crash; a run with the same id finds them again and goes on. Nothing is ever written
/// into what has been replaced, nor taken from it.
class StagedOutput {
 public:
  struct Options {
    bool force = false;   ///< replace a destination that exists
    bool resume = true;   ///< keep what an earlier run with this id has left
  };

  /// Errors are of kind kDestination: the destination exists (an empty directory does not count),
  /// another run works on it, it cannot be created, what has the staging directory's name is not one
  /// that a run of this user has begun.
  static Result<StagedOutput> Open(const std::filesystem::path& destination, const std::string& id,
                                   const Options& options);

  /// The output of an earlier run with this id that has its name and only lacks Finish, if there is
  /// such a one. An error where that run is still at work.
  static Result<std::optional<StagedOutput>> FindCommitted(const std::filesystem::path& destination,
                                                           const std::string& id);

  /// Where the files of an output lie until Commit.
  static Result<std::filesystem::path> PathFor(const std::filesystem::path& destination,
                                               const std::string& id);

  /// Where the output's files are now, and from Commit on the destination.
  const std::filesystem::path& path() const { return directory_.path(); }
  const OutputDirectory& directory() const { return directory_; }

  /// Between Commit and Finish: where the journal lies.
  std::filesystem::path committed_journal() const { return Beside(".journal"); }

  /// Bytes that may still be written to the file system.
  Result<uint64_t> FreeBytes() const;

  /// An error of kind kDestination where fewer are free than `needed`.
  Result<> CheckRoom(uint64_t needed) const;

  /// True where the destination holds something that Commit will replace.
  bool replaces() const;

  /// What earlier runs with other ids have left beside this destination: their staging directories
  /// and what they replaced.
  struct Leftovers {
    std::vector<std::filesystem::path> staged;
    std::vector<std::filesystem::path> replaced;
  };
  Leftovers LeftByOthers() const;

  /// An error that names what lies in the directory and is none of `files`, neither under its name
  /// nor under its staged one.
  Result<> CheckNothingElse(const std::set<std::string>& files) const;

  /// Removes the staged files: nothing in them is worth resuming.
  void Abandon();

  /// Makes the directory durable and gives it its name; replaces what was there, if allowed. It must
  /// hold `files` and nothing else. After an error the same call of another run goes on.
  Result<> Commit(const std::set<std::string>& files);

  /// After Commit, when all else is done that belongs to the output: deletes what was replaced, and
  /// the journal. Gives what could not be deleted.
  std::vector<std::filesystem::path> Finish();

 private:
  // What the last line of the journal says from Commit on: inodes, which a rename keeps.
  struct Swap {
    uint64_t output = 0;
    uint64_t replaced = 0;  // 0: nothing
  };
  StagedOutput(std::filesystem::path destination, std::filesystem::path staging,
               OutputDirectory directory)
      : destination_(std::move(destination)),
        staging_(std::move(staging)),
        directory_(std::move(directory)) {}

  static std::optional<Swap> ReadSwap(const std::filesystem::path& journal);
  static Result<> GoBack(const std::filesystem::path& destination,
                         const std::filesystem::path& staging);
  static Result<> Lock(const OutputDirectory& directory);
  Result<> TakeOver(bool is_new, const Options& options);
  Result<> NoteSwap();
  Result<> Publish();
  std::filesystem::path Beside(std::string_view suffix) const;

  std::filesystem::path destination_;
  std::filesystem::path staging_;
  OutputDirectory directory_;  // locked while this object lives
  Options options_;
  Swap swap_;
};

}  // namespace reshard

#endif  // RESHARD_IO_STAGED_OUTPUT_H_
