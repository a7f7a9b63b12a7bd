#ifndef RESHARD_RECIPE_TOML_FIELDS_H_
#define RESHARD_RECIPE_TOML_FIELDS_H_

#include <toml++/toml.h>

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// Parses TOML; a fault is an error of kind kUsage that names `origin` and the line. So is a dotted
/// key of more than 32 parts, which make a table within a table each.
Result<toml::table> ParseToml(std::string_view text, const std::string& origin);

/// The text of a TOML file of at most 16 MiB, which messages call a `what`. Errors are of kind kUsage.
Result<std::string> ReadTomlText(const std::string& path, std::string_view what);

/// The fields of one table, read by name; what is left unread at the end is a mistake. Errors are
/// of kind kUsage and name `origin` and the line. The table and `origin` must outlive it.
class TomlFields {
 public:
  TomlFields(const toml::table& table, const std::string& origin)
      : table_(table), origin_(origin) {}

  Error Fault(const toml::node* at, std::string found) const;
  /// "FILE:LINE" of the table.
  std::string place() const;

  Result<std::string> Text(std::string_view key, bool required);
  Result<bool> Flag(std::string_view key);
  /// A list of texts, or one text as a list of one; empty where the field is missing.
  Result<std::vector<std::string>> Texts(std::string_view key);
  Result<std::vector<std::string>> Texts(const toml::node* node, std::string_view key) const;
  /// A table of texts, in the order of the file; one text as one without a name.
  Result<std::vector<std::pair<std::string, std::string>>> NamedTexts(std::string_view key);
  /// The tables of [[key]].
  Result<std::vector<const toml::table*>> Tables(std::string_view key);
  /// The table of [key]; null where it is missing.
  Result<const toml::table*> Table(std::string_view key);
  std::optional<int64_t> Number(std::string_view key);

  const toml::node* Take(std::string_view key);
  const toml::node* Get(std::string_view key) const { return table_.get(key); }
  Result<> NothingLeft() const;

 private:
  const toml::table& table_;
  const std::string& origin_;
  std::set<std::string, std::less<>> taken_;
};

}  // namespace reshard

#endif  // RESHARD_RECIPE_TOML_FIELDS_H_
