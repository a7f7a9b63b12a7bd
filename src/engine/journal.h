#ifndef RESHARD_ENGINE_JOURNAL_H_
#define RESHARD_ENGINE_JOURNAL_H_

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "engine/checksum.h"
#include "io/staged_output.h"

namespace reshard {

/// Which files of a staged output are finished, on disk, so that a run that was stopped can go on.
/// A journal that was begun for another source, or is damaged, counts as empty.
class Journal {
 public:
  /// Opens the journal in `directory`, or begins one. `source` stands for the state of the source's
  /// files: a journal begun for another counts as empty.
  static Result<Journal> Open(const OutputDirectory& directory, const std::string& source);

  /// What the journal `file` says; it cannot be added to.
  static Journal Read(const std::filesystem::path& file, const std::string& source);

  /// The checksum root with which `path` was finished, or null.
  const std::string* Find(const std::string& path) const;
  bool empty() const { return finished_.empty(); }

  /// Records a finished file; durable when it returns.
  Result<> Add(const std::string& path, const FileChecksum& sum);

 private:
  Journal() = default;
  void Parse(const std::string& text, const std::string& source);

  std::unique_ptr<OutputFile> file_;
  std::string text_;
  std::map<std::string, std::string> finished_;  // path -> root
};

}  // namespace reshard

#endif  // RESHARD_ENGINE_JOURNAL_H_
