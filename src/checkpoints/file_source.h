#ifndef RESHARD_CHECKPOINTS_FILE_SOURCE_H_
#define RESHARD_CHECKPOINTS_FILE_SOURCE_H_

#include <filesystem>
#include <string>
#include <vector>

#include "io/file.h"
#include "reshard/source.h"
#include "view/catalog_builder.h"

namespace reshard {

/// What all sources that are files in a directory have in common.
class FileSource : public Source {
 public:
  const Catalog& catalog() const override { return catalog_; }
  std::string_view kind() const override { return kind_; }
  std::string_view evidence() const override { return evidence_; }
  const std::string& root() const override { return root_; }
  const std::vector<std::string>& notes() const override { return notes_; }
  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override {
    return files_.ReadAt(file, offset, out);
  }

 protected:
  FileSource(std::string_view kind, std::string evidence, const std::filesystem::path& root)
      : files_(root), kind_(kind), evidence_(std::move(evidence)), root_(root.string()) {}

  /// Registers a file with the catalog and the file set, under one index.
  Result<uint32_t> AddFile(const std::string& relative, CatalogBuilder* builder) {
    auto info = StatFile(root_, relative);
    if (!info) return std::unexpected(std::move(info).error());
    return AddFile(std::move(*info), builder);
  }

  /// The same of a file that has been looked at.
  uint32_t AddFile(SourceFile file, CatalogBuilder* builder) {
    builder->AddFile(file);
    return files_.Add(std::move(file));
  }

  Catalog catalog_;
  FileSet files_;
  std::vector<std::string> notes_;

 private:
  std::string_view kind_;
  std::string evidence_;
  std::string root_;
};

}  // namespace reshard

#endif  // RESHARD_CHECKPOINTS_FILE_SOURCE_H_
