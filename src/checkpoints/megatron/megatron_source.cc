#include "checkpoints/megatron/megatron_source.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/checked_math.h"
#include "base/try.h"
#include "checkpoints/file_source.h"
#include "checkpoints/megatron/other_layout.h"
#include "checkpoints/megatron/rank_file.h"
#include "checkpoints/megatron/rank_grid.h"
#include "checkpoints/megatron/rank_name.h"
#include "checkpoints/torch_save_tensors.h"
#include "io/directory.h"
#include "view/shape_text.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

using megatron::Hints;
using megatron::RankFile;
using megatron::RankGrid;
using megatron::RankName;

constexpr std::string_view kRankPrefix = "mp_rank_";

// The second is what Megatron-LM of 2022 wrote beside a distributed optimizer's own file.
constexpr std::array<std::string_view, 2> kFileNames = {"model_optim_rng.pt", "model_rng.pt"};

// Numbers on which all ranks of one save agree; of others, such as `rank`, they need not.
constexpr std::array<std::string_view, 9> kShared = {megatron::kTpHint,
                                                     megatron::kPpHint,
                                                     megatron::kVppHint,
                                                     megatron::kEpHint,
                                                     "expert_tensor_parallel_size",
                                                     "num_layers",
                                                     "padded_vocab_size",
                                                     "iteration",
                                                     "checkpoint_version"};

Error SourceError(std::string file, std::string found, std::string expected, std::string help) {
  return Error{.kind = ErrorKind::kSource,
               .file = std::move(file),
               .found = std::move(found),
               .expected = std::move(expected),
               .help = std::move(help)};
}

// The directories whose names begin like a rank's, sorted.
Result<std::vector<std::string>> RankDirectories(const fs::path& directory) {
  RESHARD_ASSIGN(const std::vector<std::string> names, ListDirectory(directory));
  std::vector<std::string> ranks;
  for (const std::string& name : names) {
    if (!name.starts_with(kRankPrefix)) continue;
    RESHARD_ASSIGN(const PathKind kind, KindAt(directory / name));
    if (kind == PathKind::kDirectory) ranks.push_back(name);
  }
  return ranks;
}

Result<std::vector<RankName>> FindRanks(const fs::path& directory) {
  std::vector<RankName> names;
  RESHARD_ASSIGN(const std::vector<std::string> directories, RankDirectories(directory));
  for (const std::string& name : directories) {
    auto parsed = megatron::ParseRankName(name);
    if (!parsed)
      return std::unexpected(
          SourceError((directory / name).string(), "this is not how Megatron names the directory of a rank",
                      "mp_rank_TT, mp_rank_TT_PPP, mp_rank_TT_EEE or mp_rank_TT_PPP_EEE",
                      "rename it, or move it elsewhere if it is no part of the checkpoint"));
    names.push_back(std::move(*parsed));
  }
  if (names.empty())
    return std::unexpected(SourceError(directory.string(),
                                       "there are no directories mp_rank_* here",
                                       "the directory of one iteration of a Megatron checkpoint",
                                       "give the directory that the mp_rank_* lie in"));
  return names;
}

// What lies in a rank's directory: the file with its model, and others, which are not read.
struct RankDirectory {
  std::string model;
  std::vector<std::string> others;  // sorted
};

// Others name the directories of ranks alike.
Result<> CheckLayout(const fs::path& directory) {
  std::error_code code;
  const auto holds = [&](std::string_view name) { return fs::exists(directory / name, code); };
  if (std::ranges::any_of(kFileNames, holds)) return {};
  for (const megatron::OtherLayout& layout : megatron::kOtherLayouts)
    if (holds(layout.file))
      return std::unexpected(SourceError(
          directory.string(),
          fmt::format("this rank has '{}', which is {}'s layout", layout.file, layout.whose),
          fmt::format("{}", fmt::join(kFileNames, " or ")), std::string(layout.help)));
  return {};
}

Result<RankDirectory> ListRank(const fs::path& directory) {
  RankDirectory rank;
  RESHARD_ASSIGN(const std::vector<std::string> names, ListDirectory(directory));
  for (const std::string& name : names) {
    if (std::ranges::find(kFileNames, name) == kFileNames.end()) {
      rank.others.push_back(name);
      continue;
    }
    if (!rank.model.empty())
      return std::unexpected(SourceError(
          directory.string(), fmt::format("there are both {} and {}", kFileNames[0], kFileNames[1]),
          "one of them", "these are of different saves: keep one of them"));
    rank.model = name;
  }
  if (rank.model.empty())
    return std::unexpected(SourceError(directory.string(), "this rank has no file with its model",
                                       fmt::format("{}", fmt::join(kFileNames, " or ")),
                                       "copy the checkpoint again, with the files of every rank"));
  return rank;
}

class MegatronSource final : public FileSource {
 public:
  explicit MegatronSource(const fs::path& directory)
      : FileSource("megatron", "mp_rank_* directories", directory) {}

  Result<> Open() {
    RESHARD_ASSIGN(std::vector<RankName> ranks, FindRanks(root()));
    RESHARD_TRY(CheckLayout(fs::path(root()) / ranks.front().raw));
    RESHARD_ASSIGN(const RankGrid grid, megatron::MakeGrid(&ranks, root()));
    CatalogBuilder builder;
    for (const RankName& rank : ranks) RESHARD_TRY(AddRank(rank, ranks.front(), &builder));
    RESHARD_TRY(megatron::CheckComplete(grid, hints_, root()));
    SettleHints(grid);
    RESHARD_ASSIGN(catalog_, std::move(builder).Build(root()));
    return {};
  }

  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk&) const override {
    return *tensors_.Find(tensor.name);
  }

  Hints hints() const override { return hints_; }

 private:
  Result<> AddRank(const RankName& rank, const RankName& first, CatalogBuilder* builder) {
    const fs::path directory = fs::path(root()) / rank.raw;
    RESHARD_ASSIGN(const RankDirectory listed, ListRank(directory));
    RESHARD_ASSIGN(const uint32_t index, AddFile(rank.raw + "/" + listed.model, builder));
    RESHARD_ASSIGN(const auto file, files_.Open(index));
    RESHARD_ASSIGN(const RankFile decoded, megatron::DecodeRankFile(*file));
    RESHARD_TRY(CompareRanks(decoded, rank, first));
    AddLeaves(rank, decoded.archive, index, builder);
    for (const std::string& other : listed.others) {
      std::error_code code;
      const uint64_t size = fs::file_size(directory / other, code);
      builder->AddObject({.name = rank.raw + "/" + other,
                          .summary = "beside the model's file, not read",
                          .byte_size = code ? 0 : size});
    }
    return {};
  }

  // Keeps those hints that all ranks so far agree on.
  Result<> CompareRanks(const RankFile& file, const RankName& rank, const RankName& first) {
    if (rank.raw == first.raw) {
      chunks_ = file.chunks;
      hints_ = file.hints;
      return {};
    }
    const auto differs = [&](std::string found, std::string expected) {
      return std::unexpected(
          SourceError((fs::path(root()) / rank.raw).string(), std::move(found),
                      fmt::format("{}, as in {}", expected, first.raw),
                      "these are of different saves: copy the checkpoint again, from one of them"));
    };
    if (file.chunks != chunks_)
      return differs(fmt::format("the rank has {} model chunks", file.chunks),
                     fmt::format("{}", chunks_));
    for (const std::string_view name : kShared) {
      const auto here = file.hints.find(std::string(name));
      const auto there = hints_.find(std::string(name));
      if (here != file.hints.end() && there != hints_.end() && here->second != there->second)
        return differs(fmt::format("{} is {}", name, here->second),
                       fmt::format("{}", there->second));
    }
    std::erase_if(hints_, [&](const auto& hint) {
      const auto here = file.hints.find(hint.first);
      return here == file.hints.end() || here->second != hint.second;
    });
    return {};
  }

  void AddLeaves(const RankName& rank, const torch_save::Archive& archive, uint32_t file,
                 CatalogBuilder* builder) {
    const auto name_of = [&](const auto& leaf) {
      const auto key = megatron::KeyInModel(leaf.path, leaf.name);
      if (!key) return rank.raw + "/" + leaf.name;
      return megatron::FormatTensorName(
          {.rank = rank.raw, .chunk = std::get<std::string>(leaf.path[0]), .key = *key});
    };
    for (const torch_save::TensorLeaf& leaf : archive.tensors) {
      const torch_save::TensorEntry& tensor = leaf.tensor;
      if (megatron::KeyInModel(leaf.path, leaf.name)) {
        tensors_.AddTensor(name_of(leaf), tensor, file, builder);
        continue;
      }
      builder->AddObject(
          {.name = name_of(leaf),
           .summary = fmt::format("{} {}", DTypeName(tensor.dtype), ShapeText(tensor.shape)),
           .byte_size = static_cast<uint64_t>(CheckedNumel(tensor.shape).value_or(0) *
                                              ItemSize(tensor.dtype))});
    }
    for (const torch_save::UnreadableLeaf& leaf : archive.unreadable) {
      if (megatron::KeyInModel(leaf.path, leaf.name))
        builder->AddUnreadable({.name = name_of(leaf), .what = leaf.what, .file = file});
      else
        builder->AddObject({.name = name_of(leaf), .summary = leaf.what});
    }
    for (const torch_save::ObjectLeaf& leaf : archive.objects)
      builder->AddObject({.name = name_of(leaf), .summary = leaf.summary});
  }

  // Where directories and files know better than `args`, which other programs leave as they were.
  void SettleHints(const RankGrid& grid) {
    const auto sizes = megatron::SizesOf(grid, hints_);
    Settle(megatron::kTpHint, grid.tp_size);
    Settle(megatron::kVppHint, chunks_);
    if (sizes) {
      Settle(megatron::kPpHint, sizes->pp);
      Settle(megatron::kEpHint, sizes->ep);
      return;
    }
    hints_.erase(std::string(megatron::kPpHint));
    hints_.erase(std::string(megatron::kEpHint));
  }

  void Settle(std::string_view name, uint32_t size) {
    const auto [at, added] = hints_.try_emplace(std::string(name), size);
    if (added || at->second == int64_t{size}) return;
    notes_.push_back(
        fmt::format("args.{} is {}, but the checkpoint has {}", name, at->second, size));
    at->second = size;
  }

  TorchSaveTensors tensors_;
  Hints hints_;
  uint32_t chunks_ = 1;
};

}  // namespace

Result<bool> HoldsMegatronRanks(const fs::path& directory) {
  RESHARD_ASSIGN(const std::vector<std::string> names, RankDirectories(directory));
  return !names.empty();
}

Result<std::unique_ptr<Source>> OpenMegatronSource(const fs::path& directory) {
  RESHARD_ASSIGN(const fs::path whole, AbsolutePath(directory));
  auto source = std::make_unique<MegatronSource>(whole);
  RESHARD_TRY(source->Open());
  return source;
}

}  // namespace reshard
