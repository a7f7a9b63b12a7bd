#include "reshard/convert.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "checkpoints/dcp/dcp_source.h"
#include "checkpoints/hf/hf_source.h"
#include "checkpoints/megatron/megatron_source.h"
#include "checkpoints/nearby.h"
#include "checkpoints/not_a_checkpoint.h"
#include "checkpoints/pt/pt_source.h"
#include "io/directory.h"
#include "io/file.h"
#include "reshard/local_path.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kTracker = "latest_checkpointed_iteration.txt";
constexpr uint64_t kMaxTrackerBytes = 4096;

// The directory of the iteration that the tracker file names.
Result<fs::path> FollowTracker(const fs::path& directory) {
  RESHARD_ASSIGN(std::string text, ReadTextFile(directory / kTracker, kMaxTrackerBytes));
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  std::vector<std::string> names{text};
  uint64_t iteration = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), iteration);
  if (code == std::errc() && end == text.data() + text.size())
    names = {fmt::format("iter_{:07}", iteration), fmt::format("global_step_{}", iteration),
             fmt::format("step-{}", iteration), text};
  for (const std::string& name : names) {
    if (name.empty() || name.contains('/') || name == "..") continue;
    RESHARD_ASSIGN(const PathKind kind, KindAt(directory / name));
    if (kind == PathKind::kDirectory) return directory / name;
  }
  return std::unexpected(Error{.kind = ErrorKind::kSource,
                               .file = (directory / kTracker).string(),
                               .found = fmt::format("it names the iteration '{}'", text),
                               .expected = fmt::format("a directory {} beside it",
                                                       fmt::join(names, " or ")),
                               .help = "give the checkpoint's own directory"});
}

Result<std::unique_ptr<Source>> OpenFile(const fs::path& file, const std::string& from) {
  if (from == "hf" || (from == "auto" && file.extension() == ".safetensors"))
    return OpenHfSource(file);
  if (from == "dcp" || (from == "auto" && file.filename() == ".metadata"))
    return OpenDcpSource(file.has_parent_path() ? file.parent_path() : fs::path("."));
  if (from == "megatron")
    return std::unexpected(Error{.kind = ErrorKind::kSource,
                                 .file = file.string(),
                                 .found = "this is a file",
                                 .expected = "a directory with --from megatron",
                                 .help = "give the directory that the mp_rank_* lie in"});
  if (from == "auto")
    if (auto known = TellWhatFileIs(file)) return std::unexpected(*std::move(known));
  return OpenPtSource(file);
}

// The kind of the checkpoint in a directory, by its files alone. `path` is the name in errors.
Result<std::string> DetectKind(const std::string& path, const fs::path& directory) {
  RESHARD_ASSIGN(const HfFiles hf, FindHfFiles(directory));
  std::vector<std::string> kinds;
  std::vector<std::string> evidence;
  const auto see = [&](bool there, std::string kind, std::string what) {
    if (!there) return;
    kinds.push_back(std::move(kind));
    evidence.push_back(std::move(what));
  };
  RESHARD_ASSIGN(const std::vector<std::string> metadata, FindDcpMetadata(directory));
  RESHARD_ASSIGN(const bool ranks, HoldsMegatronRanks(directory));
  see(!metadata.empty(), "dcp", "DCP metadata");
  see(ranks, "megatron", "mp_rank_* directories");
  see(!hf.names.empty(), "hf", hf.evidence);
  if (kinds.empty())
    return std::unexpected(TellWhatDirectoryIs(path, directory, CheckpointsBelow(directory)));
  if (kinds.size() > 1)
    return std::unexpected(
        Error{.kind = ErrorKind::kUsage,
              .file = path,
              .found = fmt::format("there are both {}", fmt::join(evidence, " and ")),
              .expected = "one checkpoint",
              .help = fmt::format("say which with --from {}", fmt::join(kinds, " or --from "))});
  return std::move(kinds[0]);
}

Result<std::unique_ptr<Source>> OpenThere(const std::string& path, const std::string& from) {
  fs::path place = path;
  RESHARD_ASSIGN(const PathKind there, KindAt(place));
  if (there == PathKind::kNothing) return std::unexpected(TellWhatIsMissing(path));
  if (there != PathKind::kDirectory) return OpenFile(place, from);
  RESHARD_ASSIGN(const bool itself, HoldsCheckpoint(place));
  RESHARD_ASSIGN(const PathKind tracker, KindAt(place / kTracker));
  if (!itself && tracker != PathKind::kNothing) {
    RESHARD_ASSIGN(place, FollowTracker(place));
  }

  std::string kind = from;
  if (kind == "auto") {
    RESHARD_ASSIGN(kind, DetectKind(path, place));
  }
  if (kind == "dcp") return OpenDcpSource(place);
  if (kind == "hf") return OpenHfSource(place);
  if (kind == "megatron") return OpenMegatronSource(place);
  if (kind == "pt")
    return std::unexpected(Error{.kind = ErrorKind::kSource,
                                 .file = path,
                                 .found = "this is a directory",
                                 .expected = "one file of torch.save with --from pt",
                                 .help = "give the file itself"});
  return std::unexpected(Error{.kind = ErrorKind::kUsage,
                               .file = path,
                               .found = fmt::format("there is no kind '{}'", kind),
                               .expected = "auto, dcp, hf, megatron or pt"});
}

}  // namespace

Result<std::unique_ptr<Source>> OpenSource(const std::string& path, const std::string& from) {
  RESHARD_TRY(CheckIsLocal(path, PathUse::kRead));
  auto source = OpenThere(path, from);
  if (!source) return std::unexpected(TellWhatFailed(std::move(source).error()));
  return source;
}

}  // namespace reshard
