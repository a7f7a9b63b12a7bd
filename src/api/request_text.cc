#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include <fmt/format.h>

#include "base/try.h"
#include "reshard/request.h"

namespace reshard {
namespace {

// Each is a file, and a part of each tensor in the metadata.
constexpr uint32_t kMaxRanks = 65'536;

constexpr std::array<std::string_view, 3> kKinds = {"hf", "dcp", "megatron"};
constexpr std::array<std::string_view, 5> kSourceKinds = {"auto", "dcp", "hf", "megatron", "pt"};

// What people call a type: PyTorch's other names, safetensors's, those of trainers' options.
struct DTypeWord {
  std::string_view word;
  DType dtype;
};
constexpr std::array kDTypeWords = {
    DTypeWord{"bf16", DType::kBFloat16}, DTypeWord{"fp16", DType::kFloat16},
    DTypeWord{"f16", DType::kFloat16},   DTypeWord{"half", DType::kFloat16},
    DTypeWord{"fp32", DType::kFloat32},  DTypeWord{"f32", DType::kFloat32},
    DTypeWord{"float", DType::kFloat32}, DTypeWord{"fp64", DType::kFloat64},
    DTypeWord{"f64", DType::kFloat64},   DTypeWord{"double", DType::kFloat64}};

std::unexpected<Error> Usage(std::string found, std::string expected) {
  return std::unexpected(Error{.kind = ErrorKind::kUsage,
                               .found = std::move(found),
                               .expected = std::move(expected)});
}

std::optional<uint64_t> ParseNumber(std::string_view text, uint64_t most) {
  uint64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end != text.data() + text.size() || number > most)
    return std::nullopt;
  return number;
}

// "kind:how" in its two halves.
std::pair<std::string_view, std::string_view> SplitAtColon(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

std::string WithLayout(std::string_view kind, const LayoutRequest& layout) {
  const std::string text = LayoutText(layout);
  return text.empty() ? std::string(kind) : fmt::format("{}:{}", kind, text);
}

std::unexpected<Error> NoTarget(std::string_view text) {
  auto error = Usage(fmt::format("no target is '{}'", text), "hf, megatron, dcp or dcp:ranks=N");
  constexpr std::array<std::string_view, 5> kHub = {"safetensors", "huggingface", "transformers",
                                                    "hub", "bin"};
  if (std::ranges::find(kHub, text) != kHub.end())
    error.error().help = "hf is a Hugging Face directory: safetensors, or .bin with --weights bin";
  return error;
}

}  // namespace

Result<> ParseTarget(std::string_view text, ConvertRequest* request) {
  const auto [kind, how] = SplitAtColon(text);
  const auto known = std::ranges::find(kKinds, kind);
  if (known == kKinds.end() || (kind == "hf" && kind != text))
    return NoTarget(text);
  request->to = static_cast<Kind>(known - kKinds.begin());
  if (request->to == Kind::kMegatron) return ParseLayoutText(how, &request->layout);
  std::string_view rest = how;
  while (!rest.empty()) {
    const std::string_view field = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(field.size() + 1, rest.size()));
    if (field == "in-root") {
      request->in_root = true;
      continue;
    }
    const auto ranks =
        field.starts_with("ranks=") ? ParseNumber(field.substr(6), kMaxRanks) : std::nullopt;
    if (!ranks || *ranks < 1)
      return Usage(fmt::format("no target is '{}'", text),
                   fmt::format("dcp:ranks=N with N from 1 to {}, dcp:in-root or both", kMaxRanks));
    request->ranks = static_cast<uint32_t>(*ranks);
  }
  return {};
}

std::string TargetText(const ConvertRequest& request) {
  const std::string_view kind = kKinds[static_cast<size_t>(request.to)];
  if (request.to == Kind::kMegatron) return WithLayout(kind, request.layout);
  if (request.to == Kind::kDcp)
    return fmt::format("{}:ranks={}{}", kind, request.ranks, request.in_root ? ",in-root" : "");
  return std::string(kind);
}

Result<> ParseSourceKind(std::string_view text, ConvertRequest* request) {
  const auto [kind, how] = SplitAtColon(text);
  if (std::ranges::find(kSourceKinds, kind) == kSourceKinds.end() ||
      (kind != text && kind != "megatron"))
    return Usage(fmt::format("no source is '{}'", text),
                 "auto, dcp, hf, pt, megatron or megatron:tp=N,...");
  request->from = kind;
  return ParseLayoutText(how, &request->from_layout);
}

std::string SourceKindText(const ConvertRequest& request) {
  return WithLayout(request.from, request.from_layout);
}

Result<VocabPadding> ParseVocabPadding(std::string_view text) {
  if (text.empty()) return VocabPadding{};
  const auto [size, content] = SplitAtColon(text);
  const bool multiple = size.starts_with('x');
  const auto rows = ParseNumber(size.substr(multiple), INT32_MAX);
  if (!rows || *rows < 1 || (!content.empty() && content != "zeros" && content != "last-row"))
    return Usage(fmt::format("no padding of the vocabulary is '{}'", text),
                 "a number of rows, or xN for a multiple of N; with :last-row for its content");
  VocabPadding padding{.last_row = content == "last-row"};
  (multiple ? padding.multiple : padding.rows) = static_cast<int64_t>(*rows);
  return padding;
}

std::string VocabPaddingText(const VocabPadding& padding) {
  if (padding.IsNone()) return {};
  const std::string size = padding.multiple > 0 ? fmt::format("x{}", padding.multiple)
                                                : fmt::format("{}", padding.rows);
  return padding.last_row ? size + ":last-row" : size;
}

Result<std::optional<uint64_t>> ParseIteration(std::string_view text) {
  if (text == "release") return std::optional<uint64_t>();
  const auto number = ParseNumber(text, UINT64_MAX);
  if (!number) return Usage(fmt::format("no iteration is '{}'", text), "release or a number");
  return number;
}

std::string IterationText(const std::optional<uint64_t>& iteration) {
  return iteration ? fmt::to_string(*iteration) : "release";
}

std::optional<DType> ParseDTypeWord(std::string_view text) {
  if (text.starts_with("torch.")) text.remove_prefix(6);
  if (const auto dtype = ParseDType(text)) return dtype;
  std::string word(text);
  std::ranges::transform(word, word.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto alias = std::ranges::find(kDTypeWords, word, &DTypeWord::word);
  return alias == kDTypeWords.end() ? ParseDType(word) : alias->dtype;
}

Result<DType> ParseCastType(std::string_view text) {
  const auto dtype = ParseDTypeWord(text);
  if (dtype && IsCastable(*dtype) && *dtype != DType::kFloat64) return *dtype;
  auto error = Usage(fmt::format("'{}' is no type to cast to", text),
                     "bfloat16 (bf16), float16 (fp16, half) or float32 (fp32, float)");
  error.error().help = "all other types are carried as they are: reshard does not quantize";
  return error;
}

Result<std::pair<std::string, DType>> ParseCastRule(std::string_view text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos)
    return Usage(fmt::format("'{}' has no '='", text), "REGEX=DTYPE");
  RESHARD_ASSIGN(const DType dtype, ParseCastType(text.substr(equals + 1)));
  return std::pair(std::string(text.substr(0, equals)), dtype);
}

Result<> CheckLayoutIsUsed(const ConvertRequest& request) {
  // Of ranks as the source it says how many rows the vocabulary has with its padding.
  const bool padded = request.vocab_padding.multiple > 0 || request.vocab_padding.last_row ||
                      (request.vocab_padding.rows > 0 && request.to != Kind::kHf);
  const bool iterated = request.iteration && !request.in_root;
  if (request.to == Kind::kMegatron || (request.layout == LayoutRequest() && !padded && !iterated))
    return {};
  return Usage("layout flags without --to megatron", "--to megatron");
}

}  // namespace reshard
