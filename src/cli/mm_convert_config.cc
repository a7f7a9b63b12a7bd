#include "cli/mm_convert_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <span>

#include "base/nearest.h"
#include "cli/files.h"
#include "cli/yaml.h"
#include "reshard/layout.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

constexpr const char* kNone = nullptr;
constexpr const char* kFromConfig = "config.json says it";

struct Row {
  const char* name;
  MmType type;
  const char* standard;
  bool required;
  const char* help;
  const char* ignored = nullptr;
  MmFields models = MmFields::kAll;
};

// The classes of checkpoint/vlm_model/config.py of MindSpeed-MM, and what its converters add to
// them (26.1): names, types and values where none are given.
constexpr Row kParallel[] = {
    {"llm_pp_layers", MmType::kLayers, kNone, true, "language model layers of each stage"},
    {"vit_pp_layers", MmType::kLayers, kNone, true, "vision tower layers of each stage"},
    {"audio_pp_layers", MmType::kLayers, kNone, false, "audio tower layers of each stage"},
    {"tp_size", MmType::kSize, "1", false, "tensor parallel size"},
    {"vit_tp_size", MmType::kCount, "0", false, "that of the vision tower; 0: tp_size"},
    {"audio_tp_size", MmType::kCount, "0", false, "that of the audio tower; 0: tp_size"},
    {"ep_size", MmType::kSize, "1", false, "expert parallel size"},
};
constexpr Row kHf[] = {
    {"hf_dir", MmType::kPath, kNone, true, "the Hugging Face directory, with config.json"},
};
constexpr Row kSourceHf[] = {
    {"hf_dir", MmType::kPath, kNone, false, "where config.json is not with the source"},
};
constexpr Row kLlmHf[] = {
    {"hf_dir", MmType::kPath, kNone, false, "a language model's directory",
     "MindSpeed-MM does not read it either: cfg.common_model_config.llm_hf_dir does this"},
};
constexpr Row kModel[] = {
    {"num_experts", MmType::kCount, "0", false, "experts of a layer", kFromConfig},
    {"num_key_value_heads", MmType::kCount, "0", false, "groups of heads", kFromConfig},
    {"tie_word_embeddings", MmType::kFlag, "false", false, "one table for both ends", kFromConfig},
    {"llm_hf_dir", MmType::kPath, kNone, false, "take the language model from this directory"},
    {"llm_num_layers", MmType::kCount, "0", false, "language model layers", kFromConfig},
    {"vit_num_layers", MmType::kCount, "0", false, "vision tower layers", kFromConfig},
    {"audio_num_layers", MmType::kCount, kNone, false, "audio tower layers", kFromConfig},
};
constexpr Row kModelNames[] = {
    {"enable_canonical_hf_struct", MmType::kFlag, "false", false,
     "q, k, v, gate and up each on its own", nullptr, MmFields::kCanonical},
    {"new_transformers_weight_key", MmType::kFlag, kNone, false,
     "names begin with model.language_model and model.visual", "names of both kinds are known",
     MmFields::kCanonical},
    {"model_prefix", MmType::kText, kNone, false, "what PEFT put before names: base_model.model.",
     nullptr, MmFields::kCanonical},
    // Not in MindSpeed-MM, which takes the published form.
    {"hub_form", MmType::kText, kNone, false, "of experts whose shapes leave it open: published"},
    {"resize_vocab_size", MmType::kSize, kNone, false, "rows of the embedding", nullptr,
     MmFields::kVideoAlign},
};
constexpr Row kTrust[] = {
    {"trust_remote_code", MmType::kFlag, "false", false, "run code of the model",
     "no code is ever run"},
};
constexpr Row kMmDir[] = {
    {"mm_dir", MmType::kPath, kNone, true, "the MindSpeed-MM checkpoint"},
};
constexpr Row kSaveHfDir[] = {
    {"save_hf_dir", MmType::kPath, kNone, true, "the Hugging Face directory to write"},
};
constexpr Row kSelection[] = {
    {"save_vit_only", MmType::kFlag, "false", false, "the vision tower and its projector alone"},
    {"pt_path", MmType::kPath, kNone, false, "weights from this .pt or .pth file", nullptr,
     MmFields::kVideoAlign},
    {"save_lora_only", MmType::kFlag, "false", false, "LoRA tensors alone", nullptr,
     MmFields::kVideoAlign},
};
constexpr Row kResplitDirs[] = {
    {"source_dir", MmType::kPath, kNone, true, "the checkpoint to cut anew"},
    {"target_dir", MmType::kPath, kNone, true, "the checkpoint to write"},
};
// Not in MindSpeed-MM, whose resplit knows fused tensors only.
constexpr Row kResplitModel[] = {
    {"enable_canonical_hf_struct", MmType::kFlag, "false", false,
     "q, k, v, gate and up are each on its own", nullptr, MmFields::kCanonical},
};

bool Has(MmFields models, MmFields wanted) {
  return static_cast<unsigned>(models) >= static_cast<unsigned>(wanted);
}

std::unexpected<Error> Usage(std::string found, std::string expected) {
  return std::unexpected(
      Error{.kind = ErrorKind::kUsage, .found = std::move(found), .expected = std::move(expected)});
}

bool IsNumberFrom(std::string_view text, uint64_t least) {
  uint64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  return code == std::errc() && end == text.data() + text.size() && number >= least &&
         number <= INT32_MAX;
}

bool IsTrue(std::string_view text) { return text == "true" || text == "True" || text == "TRUE"; }
bool IsFalse(std::string_view text) {
  return text == "false" || text == "False" || text == "FALSE";
}

// What a value should be; empty where it is.
std::string Expected(MmType type, const std::string& text) {
  switch (type) {
    case MmType::kText:
      return {};
    case MmType::kPath:
      return text.empty() ? "a path" : "";
    case MmType::kLayers:
      return ParseLayerRows(text) ? "" : "a list, or a list for each chunk: [[4,4],[4,2]]";
    case MmType::kCount:
      return IsNumberFrom(text, 0) ? "" : "a number";
    case MmType::kSize:
      return IsNumberFrom(text, 1) ? "" : "a number from 1 on";
    case MmType::kFlag:
      return IsTrue(text) || IsFalse(text) ? "" : "true or false";
  }
  return {};
}

bool IsNullText(std::string_view text) { return text == "null" || text == "None"; }

}  // namespace

std::vector<MmField> MmFieldsOf(MmMethod method, MmFields models) {
  std::vector<MmField> fields;
  const auto add = [&](std::string_view group, std::span<const Row> rows) {
    for (const Row& row : rows)
      if (Has(models, row.models))
        fields.push_back({fmt::format("cfg.{}{}", group, row.name), row.type, row.standard,
                          row.required, row.help, row.ignored});
  };
  if (method == MmMethod::kResplit) {
    add("", kResplitDirs);
    add("source_parallel_config.", kParallel);
    add("target_parallel_config.", kParallel);
    add("hf_config.", kSourceHf);
    add("common_model_config.", kResplitModel);
    return fields;
  }
  add("", kMmDir);
  if (method == MmMethod::kMmToHf) add("", kSaveHfDir);
  add("hf_config.", kHf);
  if (method != MmMethod::kHfToMmDcp) add("parallel_config.", kParallel);
  if (method != MmMethod::kHfToMmDcp) add("llm_hf_config.", kLlmHf);
  if (method == MmMethod::kHfToMm) add("", kSelection);
  add("", kTrust);
  add("common_model_config.", kModel);
  add("common_model_config.", kModelNames);
  return fields;
}

Result<MmYamlStyle> ParseMmYamlStyle(std::string_view text) {
  MmYamlStyle style;
  if (text == "true") return style;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    if (word == "comments")
      style.comments = true;
    else if (word == "skip_null")
      style.skip_null = true;
    else if (word == "skip_default")
      style.skip_default = true;
    else
      return Usage(fmt::format("--print_config={}", Printable(word)),
                   "comments, skip_default, skip_null, or several with commas");
    text.remove_prefix(std::min(word.size() + 1, text.size()));
  }
  return style;
}

const MmField* MmConfig::Find(std::string_view name) const {
  const auto field = std::ranges::find(fields_, name, &MmField::name);
  return field == fields_.end() ? nullptr : &*field;
}

Result<> MmConfig::Set(std::string_view name, std::optional<std::string> text) {
  std::string key(name);
  std::ranges::replace(key, '-', '_');
  const bool is_null = !text || IsNullText(*text);
  const std::string group = key + ".";
  const auto within = [&](const auto& entry) { return entry.first.starts_with(group); };
  const bool is_group = std::ranges::any_of(
      fields_, [&](const MmField& known) { return known.name.starts_with(group); });
  if (is_group && is_null) {
    std::erase_if(values_, within);
    return {};
  }
  const MmField* field = Find(key);
  if (field == nullptr) {
    std::vector<std::string> names;
    for (const MmField& known : fields_) names.push_back(known.name);
    const std::string nearest = Nearest(key, names);
    return Usage(fmt::format("there is no field '{}'", Printable(name)),
                 nearest.empty() ? fmt::format("one of {}", fmt::join(names, ", "))
                                 : fmt::format("perhaps {}", nearest));
  }
  if (is_null) {
    values_.erase(key);
    return {};
  }
  if (std::string expected = Expected(field->type, *text); !expected.empty())
    return Usage(fmt::format("{} = '{}'", key, Printable(*text)), std::move(expected));
  if (field->type == MmType::kLayers) std::erase(*text, ' ');
  values_.insert_or_assign(std::move(key), *std::move(text));
  return {};
}

Result<> MmConfig::SetFromFile(const std::string& path) {
  files_.push_back(path);
  const auto text = ReadFile(path, kMaxYamlBytes);
  if (!text) return std::unexpected(text.error());
  auto values = ParseYaml(*text, path);
  if (!values) return std::unexpected(std::move(values).error());
  for (YamlValue& value : *values) {
    auto set = Set(value.path, value.null ? std::nullopt : std::optional(std::move(value.text)));
    if (set) continue;
    set.error().file = fmt::format("{}:{}", path, value.line);
    return set;
  }
  return {};
}

Result<> MmConfig::CheckComplete() const {
  std::vector<std::string> missing;
  for (const MmField& field : fields_)
    if (field.required && !values_.contains(field.name)) missing.push_back("--" + field.name);
  if (missing.empty()) return {};
  return Usage(
      fmt::format("{} {} required", fmt::join(missing, ", "), missing.size() == 1 ? "is" : "are"),
      "on the command line, or in the file of --config");
}

std::string MmConfig::Text(std::string_view name) const {
  if (const auto value = values_.find(name); value != values_.end()) return value->second;
  const MmField* field = Find(name);
  return field == nullptr || field->standard == nullptr ? "" : field->standard;
}

bool MmConfig::Flag(std::string_view name) const { return IsTrue(Text(name)); }

std::vector<std::string> MmConfig::IgnoredFields() const {
  std::vector<std::string> notes;
  for (const MmField& field : fields_)
    if (field.ignored != nullptr && values_.contains(field.name))
      notes.push_back(fmt::format("{} has no effect: {}", field.name, field.ignored));
  return notes;
}

std::string MmConfig::ToYaml(const MmYamlStyle& style) const {
  std::string yaml;
  std::vector<std::string> open;  // the mappings that the next line would stand in
  for (const MmField& field : fields_) {
    const auto value = values_.find(field.name);
    const std::string text = Text(field.name);
    const bool is_default = value == values_.end() || (field.standard && text == field.standard);
    const bool is_null = value == values_.end() && field.standard == nullptr;
    if ((style.skip_null && is_null) || (style.skip_default && is_default)) continue;

    std::vector<std::string> keys;
    for (size_t at = 0, dot = 0; dot != std::string::npos; at = dot + 1) {
      dot = field.name.find('.', at);
      keys.push_back(field.name.substr(at, dot - at));
    }
    size_t shared = 0;
    while (shared < open.size() && shared + 1 < keys.size() && open[shared] == keys[shared])
      ++shared;
    open.assign(keys.begin(), keys.end() - 1);
    for (size_t level = shared; level + 1 < keys.size(); ++level)
      yaml += fmt::format("{:{}}{}:\n", "", 2 * level, keys[level]);
    const size_t indent = 2 * (keys.size() - 1);
    if (style.comments)
      yaml +=
          fmt::format("{:{}}# {}{}\n", "", indent, field.help, field.required ? " (required)" : "");
    const bool verbatim = field.type == MmType::kLayers;
    yaml += fmt::format("{:{}}{}: {}\n", "", indent, keys.back(),
                        is_null    ? "null"
                        : verbatim ? text
                                   : YamlScalar(text));
  }
  return yaml;
}

}  // namespace reshard::cli
