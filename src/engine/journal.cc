#include "engine/journal.h"

#include <sstream>

#include <fmt/format.h>

#include "base/try.h"

namespace reshard {
namespace {

constexpr uint64_t kMaxJournalBytes = uint64_t{64} << 20;

}  // namespace

// Takes over what `text` says, as far as it is whole.
void Journal::Parse(const std::string& text, const std::string& source) {
  text_ = fmt::format("reshard-journal 1 {}\n", source);
  if (!text.starts_with(text_)) return;
  std::istringstream lines(text.substr(text_.size()));
  // "done <root> <path>"; a last line without its end was being written when the run stopped.
  for (std::string line; std::getline(lines, line) && !lines.eof();) {
    if (!line.starts_with("done ") || line.size() < 39 || line[37] != ' ') break;
    finished_[line.substr(38)] = line.substr(5, 32);
    text_ += line + "\n";
  }
}

Journal Journal::Read(const std::filesystem::path& file, const std::string& source) {
  Journal journal;
  journal.Parse(ReadTextFile(file, kMaxJournalBytes).value_or(""), source);
  return journal;
}

Result<Journal> Journal::Open(const OutputDirectory& directory, const std::string& source) {
  Journal journal;
  const std::string name(kJournalName);
  std::string before;
  if (const auto file = directory.OpenToRead(name); file && (*file)->size() <= kMaxJournalBytes) {
    before.resize((*file)->size());
    RESHARD_TRY((*file)->ReadAt(0, std::as_writable_bytes(std::span(before))));
    RESHARD_ASSIGN(journal.file_, directory.OpenToWrite(name));
  } else {
    RESHARD_ASSIGN(journal.file_, directory.Create(name));
  }
  journal.Parse(before, source);
  // What is whole stays as it is, so that a run stopped right here forgets nothing.
  const std::string& text = journal.text_;
  if (!before.starts_with(text)) {
    RESHARD_TRY(journal.file_->Resize(0));
    RESHARD_TRY(journal.file_->WriteAt(0, std::as_bytes(std::span(text))));
  } else if (before.size() > text.size()) {
    RESHARD_TRY(journal.file_->Resize(text.size()));
  }
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
