#include "recipe/toml_fields.h"

#include <algorithm>
#include <fstream>

#include <fmt/format.h>

#include "base/try.h"
#include "reshard/local_path.h"

namespace reshard {

// Debian's build of the library reports faults by exception; none leaves this function.
Result<toml::table> ParseToml(std::string_view text, const std::string& origin) {
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
  constexpr std::streamsize kMaxBytes = std::streamsize{16} << 20;
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  file.read(text.data(), kMaxBytes + 1);
  // Only a file that ends before the limit was read whole; a directory opens, and does not end.
  if (!file.eof())
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .file = path,
                                 .found = fmt::format("this {} cannot be read", what),
                                 .expected = "a TOML file of at most 16 MiB"});
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
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
