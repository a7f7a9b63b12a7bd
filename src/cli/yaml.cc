#include "cli/yaml.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml.h>

#include <algorithm>
#include <set>

#include "base/json_writer.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

bool IsNull(std::string_view plain) {
  return plain.empty() || plain == "~" || plain == "null" || plain == "Null" || plain == "NULL";
}

// libyaml's parser and the event that it stands at.
class Reader {
 public:
  Reader(std::string_view text, const std::string& file) : file_(file) {
    ready_ = yaml_parser_initialize(&parser_) != 0;
    if (!ready_) return;
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() {
    if (!ready_) return;
    yaml_event_delete(&event_);
    yaml_parser_delete(&parser_);
  }

  Result<std::vector<YamlValue>> ReadStream();

 private:
  std::unexpected<Error> Fault(size_t line, std::string found, std::string expected) const {
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .file = fmt::format("{}:{}", file_, line),
                                 .found = std::move(found),
                                 .expected = std::move(expected)});
  }

  size_t line() const { return event_.start_mark.line + 1; }
  std::string_view scalar() const {
    return {reinterpret_cast<const char*>(event_.data.scalar.value), event_.data.scalar.length};
  }

  Result<> Next();
  Result<> ReadMapping(const std::string& above, size_t depth);
  Result<> ReadValue(YamlValue value, size_t depth);
  Result<std::string> ReadList(size_t depth);

  const std::string& file_;
  bool ready_ = false;
  yaml_parser_t parser_{};
  yaml_event_t event_{};
  std::vector<YamlValue> values_;
  std::set<std::string> paths_;
};

Result<> Reader::Next() {
  yaml_event_delete(&event_);
  if (yaml_parser_parse(&parser_, &event_) == 0)
    return Fault(parser_.problem_mark.line + 1,
                 fmt::format("this is no YAML: {}",
                             parser_.problem == nullptr ? "it cannot be read" : parser_.problem),
                 "a mapping of names to values");
  const bool tagged =
      (event_.type == YAML_SCALAR_EVENT && event_.data.scalar.tag != nullptr) ||
      (event_.type == YAML_SEQUENCE_START_EVENT && event_.data.sequence_start.tag != nullptr) ||
      (event_.type == YAML_MAPPING_START_EVENT && event_.data.mapping_start.tag != nullptr);
  const bool anchored =
      event_.type == YAML_ALIAS_EVENT ||
      (event_.type == YAML_SCALAR_EVENT && event_.data.scalar.anchor != nullptr) ||
      (event_.type == YAML_SEQUENCE_START_EVENT && event_.data.sequence_start.anchor != nullptr) ||
      (event_.type == YAML_MAPPING_START_EVENT && event_.data.mapping_start.anchor != nullptr);
  if (tagged || anchored)
    return Fault(line(), tagged ? "a tag (!)" : "an anchor (&) or alias (*)", "plain values");
  return {};
}

Result<std::string> Reader::ReadList(size_t depth) {
  if (depth > kMaxYamlDepth)
    return Fault(line(), "lists nested too deep", fmt::format("at most {} levels", kMaxYamlDepth));
  std::vector<std::string> items;
  while (true) {
    if (auto next = Next(); !next) return std::unexpected(std::move(next).error());
    if (event_.type == YAML_SEQUENCE_END_EVENT) return fmt::format("[{}]", fmt::join(items, ", "));
    if (event_.type == YAML_SCALAR_EVENT) {
      items.emplace_back(scalar());
    } else if (event_.type == YAML_SEQUENCE_START_EVENT) {
      auto list = ReadList(depth + 1);
      if (!list) return list;
      items.push_back(*std::move(list));
    } else {
      return Fault(line(), "a mapping within a list", "numbers, or lists of them");
    }
  }
}

Result<> Reader::ReadValue(YamlValue value, size_t depth) {
  if (auto next = Next(); !next) return next;
  if (event_.type == YAML_MAPPING_START_EVENT) return ReadMapping(value.path + ".", depth + 1);
  if (!paths_.insert(value.path).second)
    return Fault(value.line, fmt::format("'{}' is given twice", Printable(value.path)), "once");
  if (event_.type == YAML_SCALAR_EVENT) {
    value.text = scalar();
    value.null = event_.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && IsNull(value.text);
  } else {
    auto list = ReadList(depth + 1);
    if (!list) return std::unexpected(std::move(list).error());
    value.text = *std::move(list);
  }
  values_.push_back(std::move(value));
  return {};
}

Result<> Reader::ReadMapping(const std::string& above, size_t depth) {
  if (depth > kMaxYamlDepth)
    return Fault(line(), "mappings nested too deep",
                 fmt::format("at most {} levels", kMaxYamlDepth));
  while (true) {
    if (auto next = Next(); !next) return next;
    if (event_.type == YAML_MAPPING_END_EVENT) return {};
    if (event_.type != YAML_SCALAR_EVENT) return Fault(line(), "a key that is no name", "a name");
    YamlValue value{.path = above + std::string(scalar()), .line = line()};
    if (auto read = ReadValue(std::move(value), depth); !read) return read;
  }
}

Result<std::vector<YamlValue>> Reader::ReadStream() {
  if (!ready_) return Fault(1, "there is not enough memory to read this", "");
  bool seen = false;
  do {
    if (auto next = Next(); !next) return std::unexpected(std::move(next).error());
    if (event_.type != YAML_DOCUMENT_START_EVENT) continue;
    if (seen) return Fault(line(), "a second document", "one");
    seen = true;
    if (auto next = Next(); !next) return std::unexpected(std::move(next).error());
    if (event_.type == YAML_SCALAR_EVENT && IsNull(scalar())) continue;
    if (event_.type != YAML_MAPPING_START_EVENT)
      return Fault(line(), "no mapping", "a mapping of names to values");
    if (auto read = ReadMapping("", 1); !read) return std::unexpected(std::move(read).error());
  } while (event_.type != YAML_STREAM_END_EVENT);
  return std::move(values_);
}

}  // namespace

Result<std::vector<YamlValue>> ParseYaml(std::string_view text, const std::string& file) {
  if (text.size() > kMaxYamlBytes)
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .file = file,
                                 .found = "this configuration is too large",
                                 .expected = fmt::format("at most {} bytes", kMaxYamlBytes)});
  return Reader(text, file).ReadStream();
}

std::string YamlScalar(std::string_view text) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
           c == '.' || c == '_' || c == '-';
  };
  // What begins otherwise may be a list, a number of another notation or null.
  const bool plain = !IsNull(text) && std::ranges::all_of(text, is_plain) && text.front() != '-' &&
                     !text.starts_with("...");
  if (plain) return std::string(text);
  JsonWriter json;  // A JSON string is a double-quoted scalar.
  json.Value(text);
  return json.Take();
}

}  // namespace reshard::cli
