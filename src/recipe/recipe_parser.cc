#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>

#include "base/try.h"
#include "recipe/braces.h"
#include "recipe/recipe.h"
#include "recipe/recipe_checks.h"
#include "recipe/toml_fields.h"

namespace reshard {
namespace {

constexpr int kMaxIncludes = 64;
constexpr size_t kMaxRules = 10'000;
// Each is compared with each other.
constexpr size_t kMaxPatterns = 4 * kMaxRules;

std::string Both(const std::string& a, const std::string& b) {
  return a.empty() ? b : b.empty() ? a : fmt::format("({}) and ({})", a, b);
}

// "a, b -> c" as its two lists.
struct MapText {
  std::vector<std::string> hub;
  std::vector<std::string> here;
};

std::string_view Trim(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

std::vector<std::string> SplitAtCommas(std::string_view text) {
  std::vector<std::string> items;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    items.emplace_back(Trim(text.substr(at, end - at)));
    at = end + 1;
  }
  return items;
}

MapText SplitMap(std::string_view text) {
  if (text.empty()) text = "*";
  const size_t arrow = text.find("->");
  const auto hub = SplitAtCommas(text.substr(0, arrow));
  return {hub, arrow == std::string_view::npos ? hub : SplitAtCommas(text.substr(arrow + 2))};
}

std::set<std::string> Captured(const std::vector<Pattern>& patterns) {
  std::set<std::string> names;
  for (const Pattern& pattern : patterns)
    for (const std::string& name : pattern.CaptureNames()) names.insert(name);
  return names;
}

Result<Stage> ParseStage(const std::string& text, const TomlFields& fields) {
  if (text.empty()) return Stage{};
  if (text == "every") return Stage{.said = true};
  const size_t dot = text.find('.');
  const std::string place = dot == std::string::npos ? "" : text.substr(dot + 1);
  const std::pair<std::string_view, Stage::Place> places[] = {{"every", Stage::Place::kEvery},
                                                              {"first", Stage::Place::kFirst},
                                                              {"last", Stage::Place::kLast},
                                                              {"start", Stage::Place::kStart},
                                                              {"end", Stage::Place::kEnd},
                                                              {"layer", Stage::Place::kLayer}};
  for (const auto& [name, value] : places)
    if (place == name && dot > 0) return Stage{value, text.substr(0, dot), true};
  return std::unexpected(fields.Fault(
      fields.Get("stage"),
      fmt::format("stage '{}' is neither 'every' nor PART.first, .last, .start, .end, .layer or .every", text)));
}

}  // namespace

// Reads one file and what it includes into a recipe.
class Recipe::Reader {
 public:
  // A map's text, or one for each form by its name.
  using MapTexts = std::vector<std::pair<std::string, std::string>>;

  Reader(Recipe& recipe, const PartText& part_text) : recipe_(recipe), part_text_(part_text) {}

  struct Place {
    std::string hub;                      // put before every hub name
    std::string here;                     // and every name here
    std::vector<std::string> roots;       // objects of the config, best first
    std::string when;                     // a condition of every rule
    std::vector<LayerCondition> where{};  // and those on its layer
    IndexMaps index{};                    // of every rule: what its `here` captures
    bool otherwise = false;               // so is every rule
  };

  Result<> ReadBody(TomlFields& top, const std::string& origin, const Place& place) {
    const size_t scope = recipe_.scopes_.size();
    recipe_.scopes_.push_back({.roots = place.roots, .sizes = {}});
    RESHARD_ASSIGN(recipe_.scopes_[scope].sizes, ReadExpressions(top, "sizes"));
    RESHARD_ASSIGN(recipe_.scopes_[scope].layers, ReadExpressions(top, "layers"));
    RESHARD_ASSIGN(recipe_.scopes_[scope].settings, ReadExpressions(top, "settings"));
    const std::pair<std::string_view, Rule::Kind> kinds[] = {{"rule", Rule::Kind::kMove},
                                                             {"copy", Rule::Kind::kCopy},
                                                             {"zero", Rule::Kind::kCopy},
                                                             {"tie", Rule::Kind::kTie},
                                                             {"drop", Rule::Kind::kDrop}};
    for (const auto& [key, kind] : kinds) {
      RESHARD_ASSIGN(const auto tables, top.Tables(key));
      for (const toml::table* table : tables)
        RESHARD_TRY(ReadRule(TomlFields(*table, origin), kind, key == "zero", place, scope));
    }
    RESHARD_ASSIGN(const auto aliases, top.Tables("alias"));
    for (const toml::table* table : aliases)
      RESHARD_TRY(ReadAlias(TomlFields(*table, origin), place));
    RESHARD_ASSIGN(const auto refusals, top.Tables("refuse"));
    for (const toml::table* table : refusals)
      RESHARD_TRY(ReadRefusal(TomlFields(*table, origin), place, scope));
    RESHARD_ASSIGN(const auto includes, top.Tables("include"));
    for (const toml::table* table : includes) {
      TomlFields fields(*table, origin);
      RESHARD_TRY(ReadInclude(fields, place, scope));
    }
    return {};
  }

  /// Of each rule: file and line.
  const std::vector<std::string>& places() const { return places_; }
  /// Of each alias.
  const std::vector<std::string>& alias_places() const { return alias_places_; }

 private:
  using Named = std::vector<std::pair<std::string, Expression>>;

  // [sizes] and its like: names and expressions, in the order of the file.
  Result<Named> ReadExpressions(TomlFields& top, const std::string& key) {
    Named named;
    RESHARD_ASSIGN(const toml::table* table, top.Table(key));
    if (!table) return named;
    for (const auto& [name, node] : *table) {
      if (!node.is_string())
        return std::unexpected(top.Fault(
            &node, fmt::format("'{}' of [{}] is not an expression in quotes", name.str(), key)));
      auto expression = Expression::Parse(*node.value<std::string>());
      if (!expression) return std::unexpected(top.Fault(&node, expression.error().found));
      named.emplace_back(name.str(), std::move(*expression));
    }
    // toml++ sorts keys; a size may use those before it in the file.
    std::ranges::sort(named, {}, [&](const auto& entry) {
      const auto& begin = table->get(entry.first)->source().begin;
      return std::pair(begin.line, begin.column);
    });
    return named;
  }

  Result<> ReadInclude(TomlFields& fields, const Place& outer, size_t scope) {
    RESHARD_ASSIGN(const std::string part, fields.Text("part", true));
    RESHARD_ASSIGN(const std::string hub, fields.Text("hub", false));
    RESHARD_ASSIGN(const std::string here, fields.Text("here", false));
    RESHARD_ASSIGN(std::vector<std::string> roots, fields.Texts("config"));
    RESHARD_ASSIGN(const std::string when, fields.Text("when", false));
    RESHARD_ASSIGN(auto where, ReadWhere(fields, outer, scope));
    RESHARD_ASSIGN(auto index, ReadIndex(fields));
    RESHARD_ASSIGN(const bool otherwise, fields.Flag("otherwise"));
    index.insert(outer.index.begin(), outer.index.end());
    RESHARD_TRY(fields.NothingLeft());
    if (++includes_ > kMaxIncludes)
      return std::unexpected(fields.Fault(nullptr, "too many parts; does one include itself?"));
    if (!part_text_) return std::unexpected(fields.Fault(nullptr, "parts cannot be read here"));
    auto text = part_text_(part);
    if (!text) return std::unexpected(fields.Fault(fields.Get("part"), text.error().found));
    const std::string origin = part + ".toml";
    RESHARD_ASSIGN(const toml::table table, ParseToml(*text, origin));
    recipe_.text_ += "\n# " + origin + "\n" + *text;
    TomlFields body(table, origin);
    RESHARD_TRY(ReadBody(body, origin,
                         {.hub = outer.hub + hub,
                          .here = outer.here + here,
                          .roots = roots.empty() ? outer.roots : std::move(roots),
                          .when = Both(outer.when, when),
                          .where = std::move(where),
                          .index = std::move(index),
                          .otherwise = outer.otherwise || otherwise}));
    return body.NothingLeft();
  }

  // What the table says under `when`, and what the part that it is in is included by.
  Result<std::optional<Expression>> Condition(TomlFields& fields, const Place& place) {
    RESHARD_ASSIGN(const std::string own, fields.Text("when", false));
    const std::string when = Both(place.when, own);
    if (when.empty()) return std::nullopt;
    auto condition = Expression::Parse(when);
    if (!condition) return std::unexpected(fields.Fault(fields.Get("when"), condition.error().found));
    return std::move(*condition);
  }

  // What the table says under `where`, and what the part that it is in is included by. A misspelt
  // name is unknown, so its condition would hold in no layer, or in each.
  Result<std::vector<LayerCondition>> ReadWhere(TomlFields& fields, const Place& place,
                                                size_t scope) {
    std::vector<LayerCondition> where = place.where;
    RESHARD_ASSIGN(const std::string own, fields.Text("where", false));
    if (own.empty()) return where;
    auto holds = Expression::Parse(own);
    if (!holds) return std::unexpected(fields.Fault(fields.Get("where"), holds.error().found));
    for (const std::string& name : holds->Names())
      if (name != "layer" && !name.contains('.') && !recipe_.scopes_[scope].Declares(name))
        return std::unexpected(fields.Fault(
            fields.Get("where"),
            fmt::format("the condition '{}' asks for '{}', which is neither 'layer' nor in [sizes]",
                        own, name)));
    where.push_back({std::move(*holds), scope});
    return where;
  }

  Result<> ReadRefusal(TomlFields fields, const Place& place, size_t scope) {
    RESHARD_ASSIGN(auto when, Condition(fields, place));
    RESHARD_ASSIGN(std::vector<std::string> names, fields.Texts("hub"));
    RESHARD_ASSIGN(std::string why, fields.Text("why", true));
    for (std::string& name : names) name = place.hub + name;
    RESHARD_ASSIGN(auto hub, Patterns(fields, names));
    if (hub.empty() == !when)
      return std::unexpected(fields.Fault(nullptr, "a refusal has either 'when' or 'hub'"));
    recipe_.refusals_.push_back({std::move(when), std::move(hub), std::move(why), scope});
    return fields.NothingLeft();
  }

  // Names of one side in another spelling: a whole name for a whole name.
  Result<> ReadAlias(TomlFields fields, const Place& place) {
    RESHARD_ASSIGN(const std::string other, fields.Text("other", true));
    RESHARD_ASSIGN(const std::string hub, fields.Text("hub", false));
    RESHARD_ASSIGN(const std::string here, fields.Text("here", false));
    RESHARD_TRY(fields.NothingLeft());
    if (hub.empty() == here.empty())
      return std::unexpected(fields.Fault(nullptr, "an alias has either 'here' or 'hub'"));
    return AddAliases(fields, (here.empty() ? place.hub : place.here),
                      {other, here.empty() ? hub : here}, here.empty());
  }

  // An alias with "{weight|bias}" is one for each.
  Result<> AddAliases(const TomlFields& fields, const std::string& prefix,
                      std::array<std::string, 2> names, bool hub) {
    const std::vector<std::string> choices = FirstChoice(names[0]);
    for (const std::string& choice : choices) {
      const auto chosen = [&](std::string name) { return Choose(std::move(name), choices, choice); };
      RESHARD_TRY(AddAliases(fields, prefix, {chosen(names[0]), chosen(names[1])}, hub));
    }
    if (!choices.empty()) return {};
    auto other = Pattern::Parse(prefix + names[0]), name = Pattern::Parse(prefix + names[1]);
    if (!other || !name || Captured({*other}) != Captured({*name}))
      return std::unexpected(fields.Fault(
          nullptr, fmt::format("'other' and '{}' are no map of names", hub ? "hub" : "here")));
    recipe_.aliases_.push_back({std::move(*other), std::move(*name), hub});
    alias_places_.push_back(fields.place());
    return {};
  }

  // A rule with "{weight|bias}" is one rule for each.
  Result<> ReadRule(TomlFields fields, Rule::Kind kind, bool zeros, const Place& place,
                    size_t scope) {
    const std::string here_key = kind == Rule::Kind::kTie ? "of" : "here";
    RESHARD_ASSIGN(std::vector<std::string> hub, fields.Texts("hub"));
    RESHARD_ASSIGN(std::vector<std::string> here, fields.Texts(here_key));
    if (kind == Rule::Kind::kDrop && here.empty() == hub.empty())
      return std::unexpected(fields.Fault(nullptr, "a drop has either 'here' or 'hub'"));
    if (kind != Rule::Kind::kDrop && (here.empty() || hub.empty()))
      return std::unexpected(
          fields.Fault(nullptr, fmt::format("'{}' is missing", hub.empty() ? "hub" : here_key)));
    for (std::string& name : hub) name = place.hub + name;
    for (std::string& name : here) name = (kind == Rule::Kind::kTie ? place.hub : place.here) + name;

    Rule rule{.kind = kind, .table = ++tables_, .scope = scope};
    RESHARD_ASSIGN(rule.otherwise, fields.Flag("otherwise"));
    rule.otherwise |= place.otherwise;
    RESHARD_ASSIGN(rule.when, Condition(fields, place));
    MapTexts maps;
    if (kind == Rule::Kind::kDrop) {
      RESHARD_ASSIGN(rule.note, fields.Text("why", true));
      RESHARD_ASSIGN(rule.restore, fields.Flag("restore"));
      if (rule.restore && hub.empty())
        return std::unexpected(
            fields.Fault(fields.Get("restore"), "only tensors of the hub can be restored"));
    } else if (zeros) {
      RESHARD_ASSIGN(const std::string map, fields.Text("map", true));
      maps.emplace_back("", map);
      RESHARD_ASSIGN(rule.zeros, ReadDType(fields));
    } else if (kind != Rule::Kind::kTie) {
      RESHARD_ASSIGN(rule.note, fields.Text("warn", false));
      RESHARD_ASSIGN(maps, fields.NamedTexts("map"));
      RESHARD_ASSIGN(rule.tp, fields.Text("tp", false));
      RESHARD_ASSIGN(rule.ep, fields.Text("ep", false));
      RESHARD_ASSIGN(rule.pad, fields.Text("pad", false));
      RESHARD_ASSIGN(rule.uneven, fields.Flag("uneven"));
      RESHARD_ASSIGN(rule.optional, fields.Flag("optional"));
      RESHARD_ASSIGN(const std::string stage, fields.Text("stage", false));
      RESHARD_ASSIGN(rule.stage, ParseStage(stage, fields));
      RESHARD_ASSIGN(rule.index, ReadIndex(fields));
    }
    if (kind == Rule::Kind::kMove) {
      rule.index.insert(place.index.begin(), place.index.end());
      RESHARD_ASSIGN(rule.where, ReadWhere(fields, place, scope));
    }
    RESHARD_TRY(fields.NothingLeft());
    return AddChoices(fields, std::move(rule), hub, here, maps);
  }

  Result<> AddChoices(const TomlFields& fields, Rule rule, std::vector<std::string> hub,
                      std::vector<std::string> here, const MapTexts& maps) {
    std::vector<std::string> choices = FirstChoice((here.empty() ? hub : here)[0]);
    if (choices.empty()) return AddRule(fields, std::move(rule), hub, here, maps);
    for (const std::string& choice : choices) {
      const auto chosen = [&](std::vector<std::string> names) {
        for (std::string& name : names) name = Choose(std::move(name), choices, choice);
        return names;
      };
      RESHARD_TRY(AddChoices(fields, rule, chosen(hub), chosen(here), maps));
    }
    return {};
  }

  Result<> AddRule(const TomlFields& fields, Rule rule, const std::vector<std::string>& hub,
                   const std::vector<std::string>& here, const MapTexts& maps) {
    RESHARD_ASSIGN(rule.hub, Patterns(fields, hub));
    RESHARD_ASSIGN(rule.here, Patterns(fields, here));
    if (rule.kind == Rule::Kind::kMove || rule.kind == Rule::Kind::kCopy)
      RESHARD_TRY(MakeFusions(fields, maps, &rule));
    const auto in_layer = [](const std::vector<Pattern>& side) {
      return Captured(side).contains("layer");
    };
    if (!rule.where.empty() && !in_layer(rule.here) && !in_layer(rule.hub))
      return std::unexpected(
          fields.Fault(fields.Get("where"), "a name without {layer} is in no layer"));
    const bool alone = rule.hub.size() == 1 && rule.here.size() == 1 && rule.index.empty() &&
                       rule.fusion.stacked().empty() && rule.fusion.parts().size() == 1;
    if (rule.kind == Rule::Kind::kCopy && !alone)
      return std::unexpected(
          fields.Fault(nullptr, "a [[copy]] repeats one tensor: one name on each side"));
    if (rule.kind == Rule::Kind::kTie &&
        (rule.here.size() != 1 || !std::ranges::includes(Captured(rule.hub), Captured(rule.here))))
      return std::unexpected(
          fields.Fault(fields.Get("of"), "'of' is not one name with the captures of 'hub'"));
    if (recipe_.rules_.size() == kMaxRules)
      return std::unexpected(fields.Fault(nullptr, "too many rules"));
    places_.push_back(fields.place());
    recipe_.rules_.push_back(std::move(rule));
    return {};
  }

  Result<std::vector<Pattern>> Patterns(const TomlFields& fields,
                                        const std::vector<std::string>& texts) {
    std::vector<Pattern> patterns;
    for (const std::string& text : texts) {
      const auto names = ExpandLists(text);
      if (!names) return std::unexpected(fields.Fault(nullptr, names.error().found));
      for (const std::string& name : *names) {
        auto pattern = Pattern::Parse(name);
        if (!pattern) return std::unexpected(fields.Fault(nullptr, pattern.error().found));
        patterns.push_back(std::move(*pattern));
      }
    }
    pattern_count_ += patterns.size();
    if (pattern_count_ > kMaxPatterns)
      return std::unexpected(fields.Fault(nullptr, "too many names in all rules together"));
    if (patterns.empty()) return patterns;
    const auto captures = Captured({patterns[0]});
    for (const Pattern& pattern : patterns)
      if (Captured({pattern}) != captures)
        return std::unexpected(fields.Fault(
            nullptr, fmt::format("'{}' and '{}' have different captures", patterns[0].text(),
                                 pattern.text())));
    return patterns;
  }

  // Several maps are of several forms of one hub tensor, and make the same of each.
  Result<> MakeFusions(const TomlFields& fields, const MapTexts& maps, Rule* rule) {
    if (maps.size() < 2) return MakeFusion(fields, maps.empty() ? "" : maps[0].second, rule);
    if (rule->kind != Rule::Kind::kMove || rule->hub.size() > 1)
      return std::unexpected(
          fields.Fault(fields.Get("map"), "only a rule with one hub name may have several maps"));
    const auto here_texts = [](const Rule& one) {
      std::vector<std::string> texts;
      for (size_t member = 0; member < one.here.size(); ++member)
        texts.push_back(one.here_axes(member).text());
      return texts;
    };
    RESHARD_TRY(MakeFusion(fields, maps[0].second, rule));
    std::vector<Form> forms;
    for (const auto& [name, text] : maps) {
      Rule other = *rule;
      RESHARD_TRY(MakeFusion(fields, text, &other));
      if (here_texts(other) != here_texts(*rule))
        return std::unexpected(
            fields.Fault(fields.Get("map"), "the maps make different tensors here"));
      forms.push_back({name, std::move(other.fusion)});
    }
    rule->forms = std::move(forms);
    return {};
  }

  // Which side is the parts, and which capture counts them.
  Result<> MakeFusion(const TomlFields& fields, const std::string& text, Rule* rule) {
    std::set<std::string> hub = Captured(rule->hub), here = Captured(rule->here);
    for (const auto& [name, map] : rule->index) {
      if (!here.contains(name) || !hub.contains(map.from))
        return std::unexpected(
            fields.Fault(fields.Get("index"),
                         fmt::format("'{}' is no capture here, or '{}' none of the hub's", name,
                                     map.from)));
      here.erase(name);
      hub.erase(map.from);
    }
    std::vector<std::string> only_hub, only_here;
    std::ranges::set_difference(hub, here, std::back_inserter(only_hub));
    std::ranges::set_difference(here, hub, std::back_inserter(only_here));
    rule->parts_here = rule->here.size() > 1 || !only_here.empty();
    const std::vector<std::string>& stacked = rule->parts_here ? only_here : only_hub;
    if (rule->whole().size() > 1 || !(rule->parts_here ? only_hub : only_here).empty() ||
        stacked.size() > 1)
      return std::unexpected(fields.Fault(
          nullptr, fmt::format("'{}' and '{}' have different captures, so one side cannot be told "
                               "from the other",
                               rule->here[0].text(), rule->hub[0].text())));
    const MapText map = SplitMap(text);
    const auto& parts = rule->parts_here ? map.here : map.hub;
    const auto& whole = rule->parts_here ? map.hub : map.here;
    if (whole.size() != 1)
      return std::unexpected(fields.Fault(fields.Get("map"), "only one side may be several"));
    const auto named = std::ranges::count_if(
        parts, [](const std::string& part) { return !part.starts_with("zero "); });
    if (named != std::ssize(rule->parts()))
      return std::unexpected(
          fields.Fault(fields.Get("map"), fmt::format("the map has {} tensors for {} names", named,
                                                      rule->parts().size())));
    auto fusion = Fusion::Parse(parts, whole[0], stacked.empty() ? "" : stacked[0]);
    if (!fusion)
      return std::unexpected(fields.Fault(fields.Get("map"), fusion.error().found));
    rule->fusion = std::move(*fusion);
    return CheckAxes(fields, *rule);
  }

  Result<> CheckAxes(const TomlFields& fields, const Rule& rule) {
    const auto captures = Captured(rule.here);
    for (size_t member = 0; member < rule.here.size(); ++member) {
      const Axes& axes = rule.here_axes(member);
      if (!rule.tp.empty() && !axes.Has(rule.tp))
        return std::unexpected(fields.Fault(
            fields.Get("tp"), fmt::format("'{}' has no axis '{}'", axes.text(), rule.tp)));
      if (!rule.ep.empty() && !axes.Has(rule.ep) && !captures.contains(rule.ep))
        return std::unexpected(fields.Fault(
            fields.Get("ep"), fmt::format("'{}' is neither an axis nor a capture", rule.ep)));
      if (!rule.pad.empty() && (!axes.Has(rule.pad) || rule.here.size() > 1))
        return std::unexpected(fields.Fault(
            fields.Get("pad"), fmt::format("'{}' has no axis '{}'", axes.text(), rule.pad)));
    }
    if (rule.stage.place == Stage::Place::kLayer && !captures.contains("layer"))
      return std::unexpected(
          fields.Fault(fields.Get("stage"), "a name without {layer} has no layer"));
    return {};
  }

  // Of [[zero]]: what its tensors are of.
  Result<DType> ReadDType(TomlFields& fields) {
    RESHARD_ASSIGN(const std::string name, fields.Text("dtype", true));
    if (const auto dtype = ParseDType(name)) return *dtype;
    return std::unexpected(fields.Fault(fields.Get("dtype"), fmt::format("'{}' is no type", name)));
  }

  Result<IndexMaps> ReadIndex(TomlFields& fields) {
    IndexMaps index;
    RESHARD_ASSIGN(const toml::table* table, fields.Table("index"));
    if (!table) return index;
    for (const auto& [key, node] : *table) {
      const std::string text(Trim(node.value_or(std::string_view())));
      IndexMap map;
      const size_t bracket = text.find('['), sign = text.find_first_of("+-");
      if (bracket != std::string::npos && text.ends_with(']')) {
        map.table = text.substr(0, bracket);
        map.from = text.substr(bracket + 1, text.size() - bracket - 2);
      } else if (sign != std::string::npos) {
        map.from = Trim(std::string_view(text).substr(0, sign));
        auto offset = Expression::Parse("0 " + text.substr(sign));
        if (!offset) return std::unexpected(fields.Fault(&node, offset.error().found));
        map.offset = std::move(*offset);
      } else {
        return std::unexpected(fields.Fault(
            &node, fmt::format("index '{}' is neither TABLE[capture] nor capture + number",
                               key.str())));
      }
      index.emplace(key.str(), std::move(map));
    }
    return index;
  }

  Recipe& recipe_;
  const PartText& part_text_;
  size_t pattern_count_ = 0;
  std::vector<std::string> places_;
  std::vector<std::string> alias_places_;
  size_t tables_ = 0;
  int includes_ = 0;
};

namespace {

Result<std::vector<std::vector<Pattern>>> ReadDetect(TomlFields& top) {
  std::vector<std::vector<Pattern>> out;
  const toml::node* detect = top.Take("detect");
  if (!detect) return out;
  if (!detect->is_array()) return std::unexpected(top.Fault(detect, "'detect' is not a list"));
  for (const toml::node& line : *detect->as_array()) {
    RESHARD_ASSIGN(const std::vector<std::string> texts, top.Texts(&line, "detect"));
    std::vector<Pattern> patterns;
    for (const std::string& text : texts) {
      auto pattern = Pattern::Parse(text);
      if (!pattern) return std::unexpected(top.Fault(&line, pattern.error().found));
      patterns.push_back(std::move(*pattern));
    }
    // Later patterns are looked up by the captures of the first.
    if (patterns.empty()) return std::unexpected(top.Fault(&line, "'detect' has an empty line"));
    const auto known = Captured({patterns[0]});
    for (const Pattern& pattern : patterns)
      if (!std::ranges::includes(known, Captured({pattern})))
        return std::unexpected(
            top.Fault(&line, fmt::format("'{}' has a capture that '{}' has not", pattern.text(),
                                         patterns[0].text())));
    out.push_back(std::move(patterns));
  }
  return out;
}

Result<std::vector<Pattern>> ReadKeep(TomlFields& top) {
  std::vector<Pattern> out;
  RESHARD_ASSIGN(const std::vector<std::string> texts, top.Texts("keep"));
  for (const std::string& text : texts) {
    auto pattern = Pattern::Parse(text);
    if (!pattern) return std::unexpected(top.Fault(nullptr, pattern.error().found));
    out.push_back(std::move(*pattern));
  }
  return out;
}

}  // namespace

Result<Recipe> Recipe::Parse(std::string_view text, const std::string& origin,
                             const PartText& part_text) {
  RESHARD_ASSIGN(const toml::table table, ParseToml(text, origin));
  TomlFields top(table, origin);
  Recipe recipe;
  recipe.text_ = text;
  RESHARD_ASSIGN(recipe.name_, top.Text("name", true));
  RESHARD_ASSIGN(recipe.description_, top.Text("description", false));
  RESHARD_ASSIGN(recipe.before_, top.Texts("before"));
  RESHARD_ASSIGN(recipe.foreign_, top.Flag("foreign"));
  RESHARD_ASSIGN(recipe.models_, top.Texts("models"));
  RESHARD_ASSIGN(recipe.detect_, ReadDetect(top));
  RESHARD_ASSIGN(recipe.keep_, ReadKeep(top));
  Reader reader(recipe, part_text);
  RESHARD_TRY(reader.ReadBody(top, origin, {.hub = {}, .here = {}, .roots = {""}, .when = {}}));
  RESHARD_TRY(top.NothingLeft());
  if (std::ranges::none_of(recipe.rules_,
                           [](const Rule& rule) { return rule.kind == Rule::Kind::kMove; }))
    return std::unexpected(top.Fault(nullptr, "the recipe has no [[rule]]"));
  RESHARD_TRY(Checks(recipe, reader.places(), reader.alias_places()).Run());
  return recipe;
}

}  // namespace reshard
