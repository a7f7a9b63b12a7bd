#include "checkpoints/hf/hf_assets.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "base/try.h"
#include "io/file.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMaxConfigBytes = uint64_t{64} << 20;

// A part of the text.
struct Span {
  size_t begin;
  size_t length;
};

struct Replacement {
  Span span;
  std::string_view text;
};

// Walks the text of an object token by token and finds what the edits replace; nothing where the
// text is no object. Numbers and literals are passed over unread: Python's json writes integers of
// any length, NaN and Infinity, and they are none of our business.
class ConfigEditor {
 public:
  ConfigEditor(std::string_view text, const ConfigEdits& edits) : text_(text), edits_(edits) {}

  std::optional<std::vector<Replacement>> Find() {
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
        if (!is_key && edits_.dtype && (key == "dtype" || key == "torch_dtype") &&
            NamesAType(content))
          found_.push_back({*string, DTypeName(*edits_.dtype)});
        if (is_key && open.size() == 1 && edits_.dequantized && content == "quantization_config")
          removed_ = string->begin - 1;
        key = is_key ? content : std::string_view();
        if (is_key) ++at_;
      } else {
        if (open.size() == 1 && (c == ',' || c == '}')) EndMember(c == ',');
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
    return std::move(found_);
  }

 private:
  static constexpr size_t kMaxDepth = 1000;
  static constexpr std::string_view kSpace = " \t\r\n";

  void SkipSpace() {
    while (at_ < text_.size() && kSpace.contains(text_[at_])) ++at_;
  }

  // The content of the string that begins here.
  std::optional<Span> TakeString() {
    const size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2 : 1;
    if (at_ >= text_.size()) return std::nullopt;
    return Span{begin, at_++ - begin};
  }

  // A member of the outermost object ends at this comma or bracket. One that is removed takes the
  // comma before it along, or, as the first, the one behind it.
  void EndMember(bool at_comma) {
    if (removed_) {
      size_t begin = *removed_, end = at_;
      if (comma_) {
        begin = *comma_;
        while (kSpace.contains(text_[end - 1])) --end;
      } else if (at_comma) {
        end = std::min(text_.find_first_not_of(kSpace, at_ + 1), text_.size());
      }
      std::erase_if(found_, [&](const Replacement& inner) { return inner.span.begin >= begin; });
      found_.push_back({{begin, end - begin}, ""});
      removed_.reset();
      if (!comma_) return;  // What comes next is the first.
    }
    if (at_comma) comma_ = at_;
  }

  static bool NamesAType(std::string_view value) {
    if (value.starts_with("torch.")) value.remove_prefix(6);
    const auto dtype = ParseDType(value);
    return dtype && IsCastable(*dtype);
  }

  std::string_view text_;
  const ConfigEdits& edits_;
  size_t at_ = 0;
  std::optional<size_t> comma_;    // the last one in the outermost object
  std::optional<size_t> removed_;  // where the member that is removed begins
  std::vector<Replacement> found_;
};

}  // namespace

std::optional<std::string> EditConfig(const std::string& json, const ConfigEdits& edits) {
  const auto found = ConfigEditor(json, edits).Find();
  if (!found) return std::nullopt;
  std::string out;
  size_t copied = 0;
  for (const auto& change : *found) {
    out.append(json, copied, change.span.begin - copied).append(change.text);
    copied = change.span.begin + change.span.length;
  }
  return out.append(json, copied);
}

Result<HfAssets> CollectAssets(const fs::path& directory, const ConfigEdits& edits,
                               const SideFileScope& scope) {
  RESHARD_ASSIGN(SideFiles beside, FindSideFiles(directory, scope));
  HfAssets assets{.left_behind = std::move(beside.left_behind)};
  for (SourceFile& file : beside.files)
    assets.files.push_back(
        {.path = file.path, .from = (directory / file.path).string(), .size = file.size});

  const auto has = [&](auto predicate) {
    return std::ranges::find_if(assets.files, [&](const HfAsset& asset) {
             return predicate(std::string_view(asset.path));
           }) != assets.files.end();
  };
  if (!has([](std::string_view name) { return name == "config.json"; }))
    assets.missing.push_back("config.json (no loader works without it)");
  if (!has([](std::string_view name) {
        return name.starts_with("tokenizer") || name.ends_with(".tiktoken") ||
               name.ends_with(".model") || name == "vocab.json" || name == "vocab.txt" ||
               name == "tekken.json";
      }))
    assets.missing.push_back("a tokenizer (tokenizer.json, tokenizer.model or vocab.json)");

  for (HfAsset& asset : assets.files) {
    if (asset.path != "config.json" || (!edits.dtype && !edits.dequantized)) continue;
    RESHARD_ASSIGN(const std::string text, ReadTextFile(asset.from, kMaxConfigBytes));
    asset.text = EditConfig(text, edits);
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
