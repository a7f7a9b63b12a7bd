#include "recipe/model_config.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <simdjson.h>

#include "base/json_memory.h"
#include "base/try.h"

namespace reshard {
namespace dom = simdjson::dom;

// Objects within objects are few in a config; what lies deeper is not a size of a model.
constexpr int kMaxDepth = 8;

struct ModelConfig::Reader {
  ModelConfig& config;

  void Object(const dom::object& object, const std::string& path, int depth) {
    config.objects_.insert(path);
    for (const auto field : object) {
      const std::string name(field.key);
      Value(field.value, path.empty() ? name : path + "." + name, depth);
    }
  }

  void Value(const dom::element& value, const std::string& path, int depth) {
    dom::object object;
    dom::array array;
    std::string_view text;
    int64_t number;
    bool flag;
    if (value.get(number) == simdjson::SUCCESS)
      config.numbers_[path] = number;
    else if (value.get(flag) == simdjson::SUCCESS)
      config.numbers_[path] = flag;
    else if (value.get(text) == simdjson::SUCCESS)
      config.numbers_[fmt::format("{}.{}", path, text)] = 1;
    else if (value.get(array) == simdjson::SUCCESS)
      List(array, path);
    else if (depth < kMaxDepth && value.get(object) == simdjson::SUCCESS)
      Object(object, path, depth + 1);
  }

  void List(const dom::array& array, const std::string& path) {
    std::vector<int64_t> numbers;
    int64_t place = 0;
    for (const dom::element item : array) {
      int64_t number;
      std::string_view text;
      if (item.get(text) == simdjson::SUCCESS) {
        Value(item, path, kMaxDepth);
        config.lists_[fmt::format("{}.{}", path, text)].push_back(place++);
        if (path == "architectures") config.architectures_.emplace_back(text);
      } else if (item.get(number) == simdjson::SUCCESS) {
        numbers.push_back(number);
        ++place;
      } else {
        return;
      }
    }
    if (numbers.size() == array.size()) config.lists_[path] = std::move(numbers);
  }
};

namespace {

// Python writes NaN and Infinity, which JSON has not; no size is one of them. Texts stay as they are.
std::string WithoutNotNumbers(std::string_view json) {
  std::string out;
  out.reserve(json.size() + json.size() / 3);  // "NaN" becomes the longer "null"
  bool in_text = false;
  while (!json.empty()) {
    const auto is_next = [&](std::string_view word) { return json.starts_with(word); };
    constexpr std::array<std::string_view, 3> kWords = {"-Infinity", "Infinity", "NaN"};
    const auto* word = in_text ? kWords.end() : std::ranges::find_if(kWords, is_next);
    if (word != kWords.end()) {
      out += "null";
      json.remove_prefix(word->size());
      continue;
    }
    const size_t taken = in_text && json[0] == '\\' ? std::min<size_t>(2, json.size()) : 1;
    if (json[0] == '"') in_text = !in_text;
    out += json.substr(0, taken);
    json.remove_prefix(taken);
  }
  return out;
}

}  // namespace

Result<ModelConfig> ModelConfig::Parse(std::string_view json, const std::string& file) {
  dom::parser parser;
  dom::object root;
  const simdjson::padded_string padded(WithoutNotNumbers(json));
  if (const auto code = JsonFault(parser.parse(padded).get(root)); code != simdjson::SUCCESS)
    return std::unexpected(Error{.kind = ErrorKind::kSource,
                                 .file = file,
                                 .found = simdjson::error_message(code),
                                 .expected = "a JSON object with the sizes of the model",
                                 .help = "copy the model's config.json again"});
  ModelConfig config;
  config.file_ = file;
  Reader{config}.Object(root, "", 0);
  return config;
}

std::optional<int64_t> ModelConfig::Number(std::string_view path) const {
  const auto at = numbers_.find(path);
  if (at == numbers_.end()) return std::nullopt;
  return at->second;
}

const std::vector<int64_t>* ModelConfig::List(std::string_view path) const {
  const auto at = lists_.find(path);
  return at == lists_.end() ? nullptr : &at->second;
}

bool ModelConfig::HasObject(std::string_view path) const {
  return objects_.contains(path);
}

}  // namespace reshard
