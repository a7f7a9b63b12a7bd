#include "checkpoints/hf/side_files.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "base/try.h"
#include "io/directory.h"
#include "io/file.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// A folder of more entries, or deeper, is data that happens to lie here.
constexpr size_t kMaxFolderEntries = 1000;
constexpr int kMaxDepth = 8;

// No tokenizer and no table of speakers is as large: these are weights, whatever their name.
constexpr uint64_t kMaxSideFile = uint64_t{1} << 30;

constexpr std::string_view kTemplates = "additional_chat_templates";

bool StartsWithAny(std::string_view text, auto& words) {
  return std::ranges::any_of(words, [&](std::string_view word) { return text.starts_with(word); });
}

bool EndsWithAny(std::string_view text, auto& words) {
  return std::ranges::any_of(words, [&](std::string_view word) { return text.ends_with(word); });
}

// What transformers and the hub's tokenizers save beside the weights.
bool IsModelFile(std::string_view name) {
  constexpr std::array kNames = {
      "config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json",
      "vocab.json",  "vocab.txt",              "merges.txt",              "normalizer.json",
      "chat_template.json", "chat_template.jinja", "tekken.json"};
  if (std::ranges::find(kNames, name) != kNames.end()) return true;
  if (name.starts_with("tokenizer") && (name.ends_with(".json") || name.ends_with(".model")))
    return true;
  constexpr std::array kEnds = {"processor_config.json", ".tiktoken", "spiece.model",
                                "sentencepiece.bpe.model", ".py"};
  return EndsWithAny(name, kEnds);
}

// Weights of any framework, and indexes of them.
bool IsWeights(std::string_view name) {
  constexpr std::array kEnds = {
      ".safetensors", ".index.json", ".gguf",   ".ggml",    ".pth",     ".ckpt", ".h5",
      ".keras",       ".msgpack",    ".onnx",   ".onnx_data", ".ot",    ".npz",  ".tflite",
      ".mlmodel",     ".mlpackage",  ".distcp", ".metadata",  ".nemo",  ".pte",  ".engine"};
  if (EndsWithAny(name, kEnds) || name.starts_with("openvino_")) return true;
  // Of the two endings that torch.save's files have, other things are saved under too: spk_dict.pt
  // of Qwen2.5-Omni, mm_projector.bin of LLaVA.
  constexpr std::array kStems = {"model", "pytorch_model", "adapter_model",
                                 "diffusion_pytorch_model", "consolidated", "distrib_optim",
                                 "mp_rank_", "zero_pp_rank_", "bf16_zero_pp_rank_"};
  constexpr std::array kTorch = {".bin", ".pt"};
  return EndsWithAny(name, kTorch) && StartsWithAny(name, kStems);
}

// What a training keeps in order to go on.
bool IsTrainingState(std::string_view name) {
  constexpr std::array kNames = {"trainer_state.json", "training_args.bin", "latest",
                                 "latest_checkpointed_iteration.txt", "runs", "wandb", "logs",
                                 "mlruns", "tensorboard"};
  constexpr std::array kStarts = {"global_step", "checkpoint-", "rng_state", "random_states_",
                                  "events.out.tfevents", "custom_checkpoint_"};
  constexpr std::array kTorchStarts = {"optimizer", "scheduler", "scaler", "sampler"};
  constexpr std::array kTorchEnds = {".pt", ".bin"};
  return std::ranges::find(kNames, name) != kNames.end() || StartsWithAny(name, kStarts) ||
         (StartsWithAny(name, kTorchStarts) && EndsWithAny(name, kTorchEnds));
}

// What no one means when he speaks of a model: hidden files, caches, reshard's own.
bool IsPassedOver(std::string_view name) {
  return name.starts_with('.') || name == "__pycache__" || name == "lost+found" ||
         name == "reshard-manifest.json" || name.ends_with(".partial") ||
         name.contains(".partial-");
}

// A ring of links leads nowhere, as a link to nothing does.
Result<PathKind> KindBehindLinks(const fs::path& path) {
  auto kind = KindAt(path);
  if (kind) return kind;
  std::error_code code;
  (void)fs::status(path, code);
  if (code == std::errc::too_many_symbolic_link_levels) return PathKind::kNothing;
  return kind;
}

class Walk {
 public:
  Walk(const fs::path& directory, const SideFileScope& scope)
      : directory_(directory), scope_(scope) {}

  Result<SideFiles> Run() {
    RESHARD_ASSIGN(const auto names, ListDirectory(directory_));
    for (const std::string& name : names) {
      if (IsPassedOver(name) || scope_.weights.contains(name)) continue;
      RESHARD_ASSIGN(const PathKind kind, KindBehindLinks(directory_ / name));
      if (kind == PathKind::kDirectory)
        RESHARD_TRY(TakeFolder(name));
      else
        RESHARD_TRY(TakeFile(name, kind));
    }
    std::ranges::sort(found_.files, {}, &SourceFile::path);
    return std::move(found_);
  }

 private:
  Result<> TakeFile(const std::string& name, PathKind kind) {
    const bool known = IsModelFile(name);
    if (!known && !scope_.is_model) return {};
    if (kind != PathKind::kFile && known)
      return std::unexpected(Error{
          .kind = ErrorKind::kSource,
          .file = (directory_ / name).string(),
          .found = kind == PathKind::kNothing ? "this is a link to nothing" : "this is no file",
          .expected = "a file of the model, as its name says",
          .help = "copy the model again, or choose another --assets-from"});
    const bool left = kind != PathKind::kFile || IsWeights(name) || IsTrainingState(name);
    if (left && !known) return Leave(name);
    RESHARD_ASSIGN(SourceFile file, StatFile(directory_, name));
    if (file.size > kMaxSideFile) return Leave(name);
    found_.files.push_back(std::move(file));
    return {};
  }

  Result<> TakeFolder(const std::string& name) {
    if (!scope_.is_model && name != kTemplates) return {};
    const auto own = scope_.weights.lower_bound(name + "/");
    if (own != scope_.weights.end() && own->starts_with(name + "/")) return {};
    std::vector<SourceFile> files;
    size_t entries = 0;
    bool whole = !IsWeights(name) && !IsTrainingState(name);
    if (whole) {
      RESHARD_ASSIGN(whole, List(name, 1, &entries, &files));
    }
    if (!whole && scope_.is_model) return Leave(name + "/");
    for (SourceFile& file : files)
      if (scope_.is_model || file.path.ends_with(".jinja"))
        found_.files.push_back(std::move(file));
    return {};
  }

  // The files below a folder; false where something in it is not to be taken.
  Result<bool> List(const std::string& folder, int depth, size_t* entries,
                    std::vector<SourceFile>* files) {
    // A link may lead back to where we are.
    std::error_code ignored;
    if (depth > kMaxDepth || fs::is_symlink(directory_ / folder, ignored)) return false;
    RESHARD_ASSIGN(const auto names, ListDirectory(directory_ / folder));
    for (const std::string& name : names) {
      if (IsPassedOver(name)) continue;
      if (++*entries > kMaxFolderEntries || IsWeights(name) || IsTrainingState(name)) return false;
      const std::string path = folder + "/" + name;
      RESHARD_ASSIGN(const PathKind kind, KindBehindLinks(directory_ / path));
      if (kind == PathKind::kDirectory) {
        RESHARD_ASSIGN(const bool whole, List(path, depth + 1, entries, files));
        if (!whole) return false;
        continue;
      }
      if (kind != PathKind::kFile) return false;
      RESHARD_ASSIGN(SourceFile file, StatFile(directory_, path));
      if (file.size > kMaxSideFile) return false;
      files->push_back(std::move(file));
    }
    return true;
  }

  Result<> Leave(std::string name) {
    found_.left_behind.push_back(std::move(name));
    return {};
  }

  const fs::path& directory_;
  const SideFileScope& scope_;
  SideFiles found_;
};

}  // namespace

Result<SideFiles> FindSideFiles(const fs::path& directory, const SideFileScope& scope) {
  return Walk(directory, scope).Run();
}

}  // namespace reshard
