#include "checkpoints/hf/hf_assets.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "base/try.h"
#include "io/file.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{64} << 20;

// What transformers and the hub's tokenizers save beside the weights.
bool IsAsset(std::string_view name) {
  constexpr std::array kNames = {
      "config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json",
      "vocab.json",  "vocab.txt",              "merges.txt",              "normalizer.json",
      "chat_template.json", "chat_template.jinja"};
  if (std::ranges::find(kNames, name) != kNames.end()) return true;
  if (name.starts_with("tokenizer") && (name.ends_with(".json") || name.ends_with(".model")))
    return true;
  return name.ends_with("processor_config.json") || name.ends_with(".tiktoken") ||
         name.ends_with("spiece.model") || name.ends_with("sentencepiece.bpe.model") ||
         name.ends_with(".py");
}

// A part of the text: the value to replace.
struct Span {
  size_t begin;
  size_t length;
};

// Walks the text of an object token by token and finds the values to replace; nothing where the
// text is no object. Numbers and literals are passed over unread: Python's json writes integers of
// any length, NaN and Infinity, and they are none of our business.
class DTypeFinder {
 public:
  explicit DTypeFinder(std::string_view text) : text_(text) {}

  std::optional<std::vector<Span>> Find() {
    std::vector<Span> spans;
    std::string open;  // the brackets that are open
    std::string_view key;
    SkipSpace();
    if (at_ == text_.size() || text_[at_] != '{') return std::nullopt;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        const std::optional<Span> string = TakeString();
        if (!string) return std::nullopt;
        SkipSpace();
        const std::string_view content = text_.substr(string->begin, string->length);
        const bool is_key = at_ < text_.size() && text_[at_] == ':';
        if (!is_key && (key == "dtype" || key == "torch_dtype") && NamesAType(content))
          spans.push_back(*string);
        key = is_key ? content : std::string_view();
        if (is_key) ++at_;
      } else {
        if (c == '{' || c == '[') {
          if (open.size() == kMaxDepth) return std::nullopt;
          open += c;
        } else if (c == '}' || c == ']') {
          if (open.empty() || open.back() != (c == '}' ? '{' : '[')) return std::nullopt;
          open.pop_back();
        }
        key = {};
        ++at_;
        if (open.empty()) break;
      }
      SkipSpace();
    }
    SkipSpace();
    if (!open.empty() || at_ != text_.size()) return std::nullopt;
    return spans;
  }

 private:
  static constexpr size_t kMaxDepth = 1000;

  void SkipSpace() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").contains(text_[at_])) ++at_;
  }

  // The content of the string that begins here.
  std::optional<Span> TakeString() {
    const size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    if (at_ >= text_.size()) return std::nullopt;
    return Span{begin, at_++ - begin};
  }

  static bool NamesAType(std::string_view value) {
    if (value.starts_with("torch.")) value.remove_prefix(6);
    const auto dtype = ParseDType(value);
    return dtype && IsCastable(*dtype);
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::optional<std::string> ReplaceDTypes(const std::string& json, std::string_view dtype) {
  const auto spans = DTypeFinder(json).Find();
  if (!spans) return std::nullopt;
  std::string out = json;
  for (auto span = spans->rbegin(); span != spans->rend(); ++span)
    out.replace(span->begin, span->length, dtype);
  return out;
}

Result<HfAssets> CollectAssets(const fs::path& directory, std::optional<DType> dtype) {
  HfAssets assets;
  std::error_code code;
  const auto add = [&](const fs::path& relative) -> Result<> {
    RESHARD_ASSIGN(const SourceFile info, StatFile(directory, relative.string()));
    assets.files.push_back({.path = relative.string(),
                            .from = (directory / relative).string(),
                            .size = info.size});
    return {};
  };
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, code))
    if (IsAsset(entry.path().filename().string()) && entry.is_regular_file(code))
      RESHARD_TRY(add(entry.path().filename()));
  // Where transformers keeps chat templates beyond the first.
  const fs::path templates = "additional_chat_templates";
  for (const fs::directory_entry& entry : fs::directory_iterator(directory / templates, code))
    if (entry.path().extension() == ".jinja" && entry.is_regular_file(code))
      RESHARD_TRY(add(templates / entry.path().filename()));
  std::ranges::sort(assets.files, {}, &HfAsset::path);

  const auto has = [&](auto predicate) {
    return std::ranges::find_if(assets.files, [&](const HfAsset& asset) {
             return predicate(std::string_view(asset.path));
           }) != assets.files.end();
  };
  if (!has([](std::string_view name) { return name == "config.json"; }))
    assets.missing.push_back("config.json (no loader works without it)");
  if (!has([](std::string_view name) {
        return name.starts_with("tokenizer") || name.ends_with(".tiktoken") ||
               name.ends_with(".model") || name == "vocab.json" || name == "vocab.txt";
      }))
    assets.missing.push_back("a tokenizer (tokenizer.json, tokenizer.model or vocab.json)");

  for (HfAsset& asset : assets.files) {
    if (asset.path != "config.json" || !dtype) continue;
    RESHARD_ASSIGN(const std::string text, ReadTextFile(asset.from, kMaxConfigBytes));
    asset.text = ReplaceDTypes(text, DTypeName(*dtype));
    if (!asset.text)
      return std::unexpected(Error{.kind = ErrorKind::kSource,
                                   .file = asset.from,
                                   .found = "config.json is no JSON object",
                                   .expected = "the configuration of a model",
                                   .help = "copy it again, or choose another --assets-from"});
    asset.size = asset.text->size();
  }
  return assets;
}

}  // namespace reshard
