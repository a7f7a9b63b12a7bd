#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "api/manifest.h"
#include "base/try.h"
#include "checkpoints/not_a_checkpoint.h"
#include "io/directory.h"
#include "io/file.h"
#include "reshard/convert.h"
#include "reshard/local_path.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// What is wrong with a file, or nothing.
Result<std::string> Compare(const fs::path& path, const FileChecksum& expected) {
  RESHARD_ASSIGN(const PathKind kind, KindAt(path));
  if (kind == PathKind::kNothing) return "the file is missing";
  if (kind != PathKind::kFile) return "it is no regular file";
  RESHARD_ASSIGN(const auto file, InputFile::Open(path));
  if (file->size() != expected.size)
    return fmt::format("it has {} bytes instead of {}", file->size(), expected.size);
  RESHARD_ASSIGN(const FileChecksum sum, SumFile(*file));
  for (size_t block = 0; block < sum.blocks.size(); ++block)
    if (sum.blocks[block] != expected.blocks[block])
      return fmt::format("its bytes differ, first within bytes {} to {}", block * kBlockBytes,
                         std::min(sum.size, (block + 1) * kBlockBytes));
  return std::string();
}

// Whether a loader may take the file for weights, or for what names them. Loaders look for names, not
// for a manifest: transformers takes model.safetensors before the index of several parts.
bool MayBeLoaded(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.ends_with(".safetensors") || name.ends_with(".index.json") ||
         name.ends_with(".distcp") || name == ".metadata" || name == "model_optim_rng.pt" ||
         (name.starts_with("pytorch_model") && name.ends_with(".bin"));
}

// Files of weights that are not listed, in the directory and one level below it, where the ranks of
// some kinds have theirs.
Result<> FindUnlisted(const fs::path& directory, const std::set<std::string>& listed,
                      VerifyReport* report) {
  const auto look = [&](const fs::path& relative) {
    if (MayBeLoaded(relative) && !listed.contains(relative.string()))
      report->unlisted.push_back(
          {relative.string(), "it is not in the manifest, and a loader may take it for weights"});
  };
  RESHARD_ASSIGN(const auto names, ListDirectory(directory));
  for (const std::string& name : names) {
    RESHARD_ASSIGN(const PathKind kind, KindAt(directory / name));
    if (kind != PathKind::kDirectory) {
      look(name);
      continue;
    }
    RESHARD_ASSIGN(const auto inner, ListDirectory(directory / name));
    for (const std::string& file : inner) look(fs::path(name) / file);
  }
  return {};
}

}  // namespace

Result<VerifyReport> Verify(const std::string& directory, const RunOptions& options,
                            Reporter& reporter) {
  RESHARD_TRY(CheckIsLocal(directory, PathUse::kRead));
  const fs::path manifest = fs::path(directory) / kManifestName;
  RESHARD_ASSIGN(const PathKind there, KindAt(directory));
  if (there == PathKind::kNothing) return std::unexpected(TellWhatIsMissing(directory));
  RESHARD_ASSIGN(const PathKind kind, KindAt(manifest));
  if (kind == PathKind::kNothing)
    return std::unexpected(
        Error{.kind = ErrorKind::kSource,
              .file = directory,
              .found = fmt::format("there is no {} here", kManifestName),
              .expected = "the output of reshard convert",
              .help = "only what reshard has written can be verified, by what it noted then"});
  RESHARD_ASSIGN(const std::string text, ReadTextFile(manifest, kMaxManifestBytes));
  RESHARD_ASSIGN(const auto files, ReadManifest(text, manifest.string()));

  const auto start = std::chrono::steady_clock::now();
  VerifyReport report;
  Progress progress{.files_total = files.size()};
  for (const ManifestFile& file : files) progress.bytes_total += file.sum.size;
  for (const ManifestFile& file : files) {
    if (options.cancelled && *options.cancelled)
      return std::unexpected(Error{.kind = ErrorKind::kInterrupted, .found = "interrupted"});
    RESHARD_ASSIGN(std::string what, Compare(fs::path(directory) / file.path, file.sum));
    if (!what.empty()) report.faults.push_back({file.path, std::move(what)});
    ++report.files;
    report.bytes += file.sum.size;
    progress.bytes_done = report.bytes;
    progress.files_done = report.files;
    progress.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    reporter.OnProgress(progress);
  }
  std::set<std::string> listed;
  for (const ManifestFile& file : files) listed.insert(file.path);
  RESHARD_TRY(FindUnlisted(directory, listed, &report));
  return report;
}

}  // namespace reshard
