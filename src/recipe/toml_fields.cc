#include "recipe/toml_fields.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "base/try.h"
#include "io/file.h"
#include "reshard/local_path.h"

namespace reshard {
namespace {

constexpr size_t kMaxKeyParts = 32;
constexpr uint64_t kMaxBytes = uint64_t{16} << 20;

// Behind the string that begins at `at`, with "..." or '...', or tripled quotes to span lines.
size_t EndOfString(std::string_view text, size_t at) {
  const char quote = text[at];
  const std::string tripled(3, quote);
  const bool wide = text.substr(at).starts_with(tripled);
  for (at += wide ? 3 : 1; at < text.size(); ++at) {
    if (text[at] == '\\' && quote == '"')
      ++at;
    else if (wide && text.substr(at).starts_with(tripled))  // two more may belong to it
      return std::min(text.find_first_not_of(quote, at + 3), std::min(at + 5, text.size()));
    else if (!wide && (text[at] == quote || text[at] == '\n'))
      return at + 1;
  }
  return text.size();
}

// The line in which a key has too many parts. The library descends into "a.b.c" by recursion, as deep
// as there are parts, and so must not see such a key at all.
std::optional<size_t> LineOfDeepKey(std::string_view text) {
  size_t parts = 1, end = 0;
  for (size_t at = 0; at < text.size(); at = end) {
    end = at + 1;
    if (text[at] == '"' || text[at] == '\'')
      end = EndOfString(text, at);
    else if (text[at] == '#')
      end = std::min(text.find_first_of("\n\v\f\r", at), text.size());
    else if (std::string_view("=,[]{}\n").contains(text[at]))
      parts = 1;
    else if (text[at] == '.' && ++parts > kMaxKeyParts)
      return 1 + static_cast<size_t>(std::ranges::count(text.substr(0, at), '\n'));
  }
  return std::nullopt;
}

}  // namespace

// Debian's build of the library reports faults by exception; none leaves this function.
Result<toml::table> ParseToml(std::string_view text, const std::string& origin) {
  if (const auto line = LineOfDeepKey(text))
    return std::unexpected(
        Error{.kind = ErrorKind::kUsage,
              .file = fmt::format("{}:{}", origin, *line),
              .found = fmt::format("a key has more than {} parts", kMaxKeyParts),
              .expected = "a key with a few dots, such as text.layers"});
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& fault) {
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .file = fmt::format("{}:{}", origin, fault.source().begin.line),
                                 .found = std::string(fault.description()),
                                 .expected = "TOML"});
  }
}

Result<std::string> ReadTomlText(const std::string& path, std::string_view what) {
  RESHARD_TRY(CheckIsLocal(path, PathUse::kRead));
  auto text = ReadTextFile(path, kMaxBytes);
  if (text) return text;
  return std::unexpected(
      Error{.kind = ErrorKind::kUsage,
            .file = path,
            .found = fmt::format("this {} cannot be read: {}", what, text.error().found),
            .expected = "a TOML file of at most 16 MiB"});
}

std::string TomlFields::place() const {
  return fmt::format("{}:{}", origin_, table_.source().begin.line);
}

Error TomlFields::Fault(const toml::node* at, std::string found) const {
  const uint32_t where = (at ? at->source() : table_.source()).begin.line;
  return Error{.kind = ErrorKind::kUsage,
               .file = fmt::format("{}:{}", origin_, where),
               .found = std::move(found),
               .help = "see docs/recipes.md for the language of recipes"};
}

Result<std::string> TomlFields::Text(std::string_view key, bool required) {
  const toml::node* node = Take(key);
  if (!node && !required) return std::string();
  if (!node) return std::unexpected(Fault(nullptr, fmt::format("'{}' is missing", key)));
  if (!node->is_string())
    return std::unexpected(Fault(node, fmt::format("'{}' is not a string", key)));
  std::string text = *node->value<std::string>();
  if (required && text.empty())
    return std::unexpected(Fault(node, fmt::format("'{}' is empty", key)));
  return text;
}

Result<bool> TomlFields::Flag(std::string_view key) {
  const toml::node* node = Take(key);
  if (!node) return false;
  if (!node->is_boolean())
    return std::unexpected(Fault(node, fmt::format("'{}' is neither true nor false", key)));
  return *node->value<bool>();
}

std::optional<int64_t> TomlFields::Number(std::string_view key) {
  const toml::node* node = Take(key);
  if (!node || !node->is_integer()) return std::nullopt;
  return node->value<int64_t>();
}

Result<std::vector<std::string>> TomlFields::Texts(std::string_view key) {
  const toml::node* node = Take(key);
  if (node && node->is_string()) return std::vector{*node->value<std::string>()};
  return Texts(node, key);
}

Result<std::vector<std::string>> TomlFields::Texts(const toml::node* node,
                                                   std::string_view key) const {
  std::vector<std::string> out;
  if (!node) return out;
  if (!node->is_array())
    return std::unexpected(Fault(node, fmt::format("'{}' is not a list", key)));
  for (const toml::node& item : *node->as_array()) {
    if (!item.is_string())
      return std::unexpected(Fault(&item, fmt::format("'{}' holds more than strings", key)));
    out.push_back(*item.value<std::string>());
  }
  return out;
}

Result<std::vector<std::pair<std::string, std::string>>> TomlFields::NamedTexts(
    std::string_view key) {
  std::vector<std::pair<std::string, std::string>> out;
  const toml::node* node = Take(key);
  if (!node) return out;
  if (node->is_string()) return std::vector{std::pair(std::string(), *node->value<std::string>())};
  if (!node->is_table())
    return std::unexpected(Fault(node, fmt::format("'{}' is neither text nor a table", key)));
  std::vector<std::pair<const toml::key*, const toml::node*>> entries;
  for (const auto& [name, text] : *node->as_table()) entries.emplace_back(&name, &text);
  std::ranges::sort(entries, {}, [](const auto& entry) {
    const toml::source_position& at = entry.second->source().begin;
    return std::pair(at.line, at.column);
  });
  for (const auto& [name, text] : entries) {
    if (!text->is_string())
      return std::unexpected(Fault(text, fmt::format("'{}' holds more than strings", key)));
    out.emplace_back(name->str(), *text->value<std::string>());
  }
  return out;
}

Result<std::vector<const toml::table*>> TomlFields::Tables(std::string_view key) {
  std::vector<const toml::table*> out;
  const toml::node* node = Take(key);
  if (!node) return out;
  if (!node->is_array_of_tables())
    return std::unexpected(Fault(node, fmt::format("'{}' is not [[{}]]", key, key)));
  for (const toml::node& item : *node->as_array()) out.push_back(item.as_table());
  return out;
}

Result<const toml::table*> TomlFields::Table(std::string_view key) {
  const toml::node* node = Take(key);
  if (node && !node->is_table())
    return std::unexpected(Fault(node, fmt::format("'{}' is not [{}]", key, key)));
  return node ? node->as_table() : nullptr;
}

const toml::node* TomlFields::Take(std::string_view key) {
  taken_.emplace(key);
  return table_.get(key);
}

Result<> TomlFields::NothingLeft() const {
  for (const auto& [key, node] : table_)
    if (!taken_.contains(key.str()))
      return std::unexpected(Fault(&node, fmt::format("unknown field '{}'", key.str())));
  return {};
}

}  // namespace reshard
