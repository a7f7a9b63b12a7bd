#include "checkpoints/hf/hf_assets.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>
#include <simdjson.h>

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

// Finds the values to replace, as positions in the text.
class DTypeFinder {
 public:
  struct Span {
    size_t begin;
    size_t length;
  };

  explicit DTypeFinder(std::string_view text) : text_(text) {}

  // Walks the text, which has been checked to be JSON.
  std::vector<Span> Find() {
    std::vector<Span> spans;
    std::string_view key;
    for (size_t at = 0; at < text_.size(); ++at) {
      if (text_[at] != '"') continue;
      const size_t end = StringEnd(at);
      const std::string_view content = text_.substr(at + 1, end - at - 1);
      size_t next = end + 1;
      while (next < text_.size() && std::string_view(" \t\r\n").contains(text_[next])) ++next;
      if (next < text_.size() && text_[next] == ':') {
        key = content;
        if (key != "dtype" && key != "torch_dtype") key = {};
        // Only a value that follows at once belongs to the key.
        ++next;
        while (next < text_.size() && std::string_view(" \t\r\n").contains(text_[next])) ++next;
        if (!key.empty() && next < text_.size() && text_[next] == '"') {
          const size_t value_end = StringEnd(next);
          if (NamesAType(text_.substr(next + 1, value_end - next - 1)))
            spans.push_back({next + 1, value_end - next - 1});
          at = value_end;
          continue;
        }
      }
      at = end;
    }
    return spans;
  }

 private:
  size_t StringEnd(size_t begin) const {
    size_t end = begin + 1;
    while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2 : 1;
    return end;
  }

  static bool NamesAType(std::string_view value) {
    if (value.starts_with("torch.")) value.remove_prefix(6);
    const auto dtype = ParseDType(value);
    return dtype && IsCastable(*dtype);
  }

  std::string_view text_;
};

}  // namespace

std::optional<std::string> ReplaceDTypes(const std::string& json, std::string_view dtype) {
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  if (parser.parse(json).get(object)) return std::nullopt;
  std::string out = json;
  const auto spans = DTypeFinder(json).Find();
  for (auto span = spans.rbegin(); span != spans.rend(); ++span)
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
