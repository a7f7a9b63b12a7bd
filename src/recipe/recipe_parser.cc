#include <algorithm>
#include <set>

#include <toml++/toml.h>

#include <fmt/format.h>

#include "base/try.h"
#include "recipe/recipe.h"

namespace reshard {
namespace {

// The fields of one table, read by name; what is left unread at the end is a mistake.
class Fields {
 public:
  Fields(const toml::table& table, const std::string& origin) : table_(table), origin_(origin) {}

  Error Fault(const toml::node* at, std::string found) const {
    const uint32_t line = (at ? at->source() : table_.source()).begin.line;
    return Error{.kind = ErrorKind::kUsage,
                 .file = fmt::format("{}:{}", origin_, line),
                 .found = std::move(found),
                 .help = "see docs/recipes.md for the language of recipes"};
  }

  Result<std::string> Text(std::string_view key, bool required) {
    const toml::node* node = Take(key);
    if (!node && !required) return std::string();
    if (!node) return std::unexpected(Fault(nullptr, fmt::format("'{}' is missing", key)));
    const auto text = node->value<std::string>();
    if (!text || !node->is_string())
      return std::unexpected(Fault(node, fmt::format("'{}' is not a string", key)));
    return *text;
  }

  Result<bool> Flag(std::string_view key) {
    const toml::node* node = Take(key);
    if (!node) return false;
    if (!node->is_boolean())
      return std::unexpected(Fault(node, fmt::format("'{}' is neither true nor false", key)));
    return *node->value<bool>();
  }

  Result<Pattern> OnePattern(std::string_view key) {
    RESHARD_ASSIGN(const std::string text, Text(key, true));
    auto pattern = Pattern::Parse(text);
    if (!pattern) return std::unexpected(Fault(table_.get(key), pattern.error().found));
    return pattern;
  }

  Result<std::vector<std::string>> Texts(const toml::node* node, std::string_view key) const {
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

  const toml::node* Take(std::string_view key) {
    taken_.emplace(key);
    return table_.get(key);
  }

  Result<> NothingLeft() const {
    for (const auto& [key, node] : table_)
      if (!taken_.contains(key.str()))
        return std::unexpected(Fault(&node, fmt::format("unknown field '{}'", key.str())));
    return {};
  }

 private:
  const toml::table& table_;
  const std::string& origin_;
  std::set<std::string, std::less<>> taken_;
};

// Debian's build of the library reports faults by exception; none leaves this function.
Result<toml::table> ParseToml(std::string_view text, const std::string& origin) {
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& fault) {
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .file = fmt::format("{}:{}", origin, fault.source().begin.line),
                                 .found = std::string(fault.description()),
                                 .expected = "a recipe in TOML"});
  }
}

Result<std::vector<const toml::table*>> Tables(Fields& fields, std::string_view key) {
  std::vector<const toml::table*> out;
  const toml::node* node = fields.Take(key);
  if (!node) return out;
  if (!node->is_array_of_tables())
    return std::unexpected(fields.Fault(node, fmt::format("'{}' is not [[{}]]", key, key)));
  for (const toml::node& item : *node->as_array()) out.push_back(item.as_table());
  return out;
}

}  // namespace

Result<Recipe> Recipe::Parse(std::string_view text, const std::string& origin) {
  RESHARD_ASSIGN(const toml::table table, ParseToml(text, origin));
  Fields top(table, origin);
  Recipe recipe;
  recipe.text_ = text;
  RESHARD_ASSIGN(recipe.name_, top.Text("name", true));
  RESHARD_ASSIGN(recipe.description_, top.Text("description", false));
  RESHARD_ASSIGN(recipe.before_, top.Texts(top.Take("before"), "before"));

  if (const toml::node* detect = top.Take("detect")) {
    if (!detect->is_array()) return std::unexpected(top.Fault(detect, "'detect' is not a list"));
    for (const toml::node& line : *detect->as_array()) {
      RESHARD_ASSIGN(const std::vector<std::string> texts, top.Texts(&line, "detect"));
      std::vector<Pattern> patterns;
      for (const std::string& pattern_text : texts) {
        auto pattern = Pattern::Parse(pattern_text);
        if (!pattern) return std::unexpected(top.Fault(&line, pattern.error().found));
        patterns.push_back(std::move(*pattern));
      }
      // Later patterns are looked up by the captures of the first.
      if (patterns.empty()) return std::unexpected(top.Fault(&line, "'detect' has an empty line"));
      const auto known = patterns[0].CaptureNames();
      for (const Pattern& pattern : patterns)
        for (const std::string& capture : pattern.CaptureNames())
          if (std::ranges::find(known, capture) == known.end())
            return std::unexpected(top.Fault(
                &line, fmt::format("'{}' has a capture that '{}' has not", pattern.text(),
                                   patterns[0].text())));
      recipe.detect_.push_back(std::move(patterns));
    }
  }

  std::vector<const toml::table*> origins;
  RESHARD_ASSIGN(const auto rules, Tables(top, "rule"));
  for (const toml::table* rule_table : rules) {
    Fields fields(*rule_table, origin);
    RESHARD_ASSIGN(Pattern here, fields.OnePattern("here"));
    RESHARD_ASSIGN(Pattern hub, fields.OnePattern("hub"));
    auto here_captures = here.CaptureNames(), hub_captures = hub.CaptureNames();
    std::ranges::sort(here_captures);
    std::ranges::sort(hub_captures);
    if (here_captures != hub_captures)
      return std::unexpected(fields.Fault(
          nullptr, fmt::format("'{}' and '{}' have different captures, so one side cannot be told "
                               "from the other",
                               here.text(), hub.text())));
    Rule rule{.here = std::move(here), .hub = std::move(hub)};
    RESHARD_ASSIGN(rule.otherwise, fields.Flag("otherwise"));
    RESHARD_ASSIGN(rule.note, fields.Text("warn", false));
    RESHARD_TRY(fields.NothingLeft());
    recipe.rules_.push_back(std::move(rule));
    origins.push_back(rule_table);
  }
  RESHARD_ASSIGN(const auto drops, Tables(top, "drop"));
  for (const toml::table* drop_table : drops) {
    Fields fields(*drop_table, origin);
    RESHARD_ASSIGN(Pattern here, fields.OnePattern("here"));
    Rule rule{.here = std::move(here), .hub = {}};
    RESHARD_ASSIGN(rule.otherwise, fields.Flag("otherwise"));
    RESHARD_ASSIGN(rule.note, fields.Text("why", true));
    RESHARD_TRY(fields.NothingLeft());
    recipe.rules_.push_back(std::move(rule));
    origins.push_back(drop_table);
  }
  RESHARD_TRY(top.NothingLeft());
  if (rules.empty()) return std::unexpected(top.Fault(nullptr, "the recipe has no [[rule]]"));

  for (size_t i = 0; i < recipe.rules_.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const Rule &first = recipe.rules_[j], &second = recipe.rules_[i];
      // An `otherwise` gives way to what is without; drops give way to rules.
      if (first.otherwise != second.otherwise) continue;
      if (first.otherwise && first.hub.has_value() != second.hub.has_value()) continue;
      const bool here = Pattern::Overlap(first.here, second.here);
      if (!here && !(first.hub && second.hub && Pattern::Overlap(*first.hub, *second.hub)))
        continue;
      Fields fields(*origins[i], origin);
      return std::unexpected(fields.Fault(
          nullptr, fmt::format("'{}' and '{}' can both claim one name",
                               here ? first.here.text() : first.hub->text(),
                               here ? second.here.text() : second.hub->text())));
    }
  return recipe;
}

}  // namespace reshard
