#include "engine/journal.h"

#include <sstream>

#include <fmt/format.h>

#include "base/try.h"

namespace reshard {
namespace {

constexpr uint64_t kMaxJournalBytes = uint64_t{64} << 20;

}  // namespace

Result<Journal> Journal::Open(const std::filesystem::path& directory, const std::string& source) {
  Journal journal;
  const std::filesystem::path path = directory / kJournalName;
  const std::string header = fmt::format("reshard-journal 1 {}\n", source);
  auto text = ReadTextFile(path, kMaxJournalBytes);
  journal.text_ = header;
  if (text && text->starts_with(header)) {
    std::istringstream lines(text->substr(header.size()));
    // "done <root> <path>"; a last line without its end was being written when the run stopped.
    for (std::string line; std::getline(lines, line) && !lines.eof();) {
      if (!line.starts_with("done ") || line.size() < 39 || line[37] != ' ') break;
      journal.finished_[line.substr(38)] = line.substr(5, 32);
      journal.text_ += line + "\n";
    }
  }
  RESHARD_ASSIGN(journal.file_, OutputFile::Create(path));
  RESHARD_TRY(journal.file_->WriteAt(0, std::as_bytes(std::span(journal.text_))));
  RESHARD_TRY(journal.file_->Sync());
  return journal;
}

const std::string* Journal::Find(const std::string& path) const {
  const auto at = finished_.find(path);
  return at == finished_.end() ? nullptr : &at->second;
}

Result<> Journal::Add(const std::string& path, const FileChecksum& sum) {
  const std::string root = sum.Root();
  const std::string line = fmt::format("done {} {}\n", root, path);
  RESHARD_TRY(file_->WriteAt(text_.size(), std::as_bytes(std::span(line))));
  text_ += line;
  finished_[path] = root;
  return file_->Sync();
}

}  // namespace reshard
