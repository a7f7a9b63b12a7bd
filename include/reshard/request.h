#ifndef RESHARD_REQUEST_H_
#define RESHARD_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reshard/dtype.h"
#include "reshard/error.h"
#include "reshard/layout.h"

namespace reshard {

/// In which order tensors are put into files.
enum class Packing {
  kNatural,        ///< numbers in names count as numbers: layer 2 before layer 10
  kLexicographic,  ///< bytes of names: layer 10 before layer 2
};

/// The file format of the weights in a Hugging Face directory.
enum class Weights { kSafetensors, kBin };

/// The kind of checkpoint to write.
enum class Kind { kHf, kDcp, kMegatron };

/// Rows behind the vocabulary, for a size that divides well.
struct VocabPadding {
  int64_t rows = 0;       ///< exactly so many; 0: not said
  int64_t multiple = 0;   ///< the next multiple of it; 0: not said
  bool last_row = false;  ///< repeat the last row; otherwise zeros

  bool IsNone() const { return rows == 0 && multiple == 0; }
};

/// What is to be made of what.
struct ConvertRequest {
  std::string source;              ///< a directory or a file
  std::string destination;         ///< a directory that does not exist yet
  std::string from = "auto";       ///< the source's kind: auto, dcp, hf, megatron, pt
  LayoutRequest from_layout{};     ///< how the source is dealt out, where its files do not say
  Kind to = Kind::kHf;
  /// The flavor of the side that is not the hub's, of the target where neither is: auto, a
  /// flavor, a built-in recipe's name, or a file.
  std::string recipe = "auto";
  std::string from_recipe = "auto";  ///< the source's flavor, where neither side is the hub's
  LayoutRequest layout{};            ///< how a Megatron target is dealt out
  /// Of a Megatron target, or a DCP one in its root; nothing: "release".
  std::optional<uint64_t> iteration{};
  VocabPadding vocab_padding{};
  uint32_t ranks = 1;              ///< whose files a DCP target has
  /// A DCP target as Megatron and MindSpeed-MM keep it: its files in the iteration's directory below
  /// the destination, named by the tracker file; its tensors under "model", beside
  /// "checkpoint_version".
  bool in_root = false;
  /// A Hugging Face directory whose names, files and forms of tensors to take over.
  std::string like{};
  /// Which form the hub's tensors have, by its name in the recipe, where their shapes leave it open,
  /// and which they get; empty: the first, and what is open is an error.
  std::string hub_form{};
  Packing packing = Packing::kNatural;
  std::optional<DType> dtype{};    ///< floating tensors become this; nothing keeps them
  std::vector<std::pair<std::string, DType>> dtype_for{};  ///< expression -> type; the first wins
  /// Float8 weights are multiplied by their scales, and become this type where neither `dtype` nor
  /// `dtype_for` says another; nothing carries both as they are.
  std::optional<DType> dequantize{};
  uint64_t shard_size = 5'000'000'000;  ///< most bytes of tensors in a file
  Weights weights = Weights::kSafetensors;
  std::string assets_from{};       ///< where config and tokenizer lie; empty: with or beside the source
  std::string config_json{};       ///< the text of a config.json, in place of the one found there
  std::string llm_from{};  ///< a Hugging Face directory that a language model's weights come from
  std::string only{};      ///< convert these alone: "vit", "audio", "llm", "lora", or an expression
  bool keep_unknown = false;  ///< a hub tensor that no rule of `recipe` takes keeps its name
  std::vector<std::string> ignore{};    ///< expressions for source names that may be dropped
  /// Files that this request was read from: a stored plan, a layout. They must stay as they are.
  std::vector<std::string> read_from{};
};

/// Reads what a target is: "hf", "dcp", "dcp:ranks=4", "dcp:ranks=4,in-root", "megatron",
/// "megatron:tp=2,pp=2" (the fields of ParseLayoutText). Errors are of kind kUsage.
Result<> ParseTarget(std::string_view text, ConvertRequest* request);
std::string TargetText(const ConvertRequest& request);

/// Reads what a source is: "auto", "dcp", "hf", "pt", "megatron", "megatron:tp=2,vit-tp=1". Errors
/// are of kind kUsage.
Result<> ParseSourceKind(std::string_view text, ConvertRequest* request);
std::string SourceKindText(const ConvertRequest& request);

/// Reads "151680" (rows) or "x128" (a multiple), with ":last-row" behind it or ":zeros". Errors are
/// of kind kUsage.
Result<VocabPadding> ParseVocabPadding(std::string_view text);
std::string VocabPaddingText(const VocabPadding& padding);  ///< empty for none

/// The element type of a name as people write it: PyTorch's, with or without "torch.", in any case,
/// and "bf16", "fp16", "half", "fp32", "float" and their like. Nothing for other words.
std::optional<DType> ParseDTypeWord(std::string_view text);

/// Reads what floating tensors may become: "bfloat16", "float16", "float32", and what else
/// ParseDTypeWord takes for them. Errors are of kind kUsage.
Result<DType> ParseCastType(std::string_view text);

/// Reads "norm=float32": an expression for names, and what those tensors become. Errors are of kind
/// kUsage.
Result<std::pair<std::string, DType>> ParseCastRule(std::string_view text);

/// An error of kind kUsage where the request says how a target is dealt out that is not.
Result<> CheckLayoutIsUsed(const ConvertRequest& request);

/// Reads "release" or a number. Errors are of kind kUsage.
Result<std::optional<uint64_t>> ParseIteration(std::string_view text);
std::string IterationText(const std::optional<uint64_t>& iteration);

}  // namespace reshard

#endif  // RESHARD_REQUEST_H_
