#include "recipe/bound_recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/checked_math.h"
#include "base/try.h"
#include "recipe/index_text.h"
#include "recipe/quantized.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

const std::string& NameOf(const Rule& rule) {
  return (rule.here.empty() ? rule.hub : rule.here)[0].text();
}

// Rules, then those that take what is left, then those that drop it.
int TurnOf(const Rule& rule) {
  return !rule.otherwise ? 0 : rule.kind == Rule::Kind::kDrop ? 2 : 1;
}

std::vector<std::string_view> Names(const std::vector<const Form*>& forms) {
  std::vector<std::string_view> names;
  for (const Form* form : forms) names.push_back(form->name);
  return names;
}

// True where conditions that hold together let two rules claim one name.
bool Clash(const Rule& a, const Rule& b) {
  if (a.otherwise || b.otherwise || (!a.when && !b.when)) return false;
  const auto overlap = [](const std::vector<Pattern>& x, const std::vector<Pattern>& y) {
    for (const Pattern& p : x)
      for (const Pattern& q : y)
        if (Pattern::Overlap(p, q)) return true;
    return false;
  };
  const auto claims_hub = [](const Rule& rule) { return rule.kind != Rule::Kind::kCopy; };
  if (claims_hub(a) && claims_hub(b) && overlap(a.hub, b.hub)) return true;
  return a.kind != Rule::Kind::kTie && b.kind != Rule::Kind::kTie && overlap(a.here, b.here);
}

}  // namespace

const Axes& Rule::PartAxes(size_t member) const {
  size_t stored = 0;
  for (const Fusion::Part& part : fusion.parts())
    if (!part.zero && stored++ == member) return part.axes;
  return fusion.whole();
}

const Axes& Rule::here_axes(size_t member) const {
  return parts_here ? PartAxes(member) : fusion.whole();
}

const Axes& Rule::hub_axes(size_t member) const {
  return parts_here ? fusion.whole() : PartAxes(member);
}

const Fusion& Rule::FusionOf(std::string_view form) const {
  const auto at = std::ranges::find(forms, form, &Form::name);
  return at == forms.end() ? fusion : at->fusion;
}

Result<const Fusion*> Rule::FusionFor(const Shape& shape, const Sizes& sizes,
                                      std::string_view wanted) const {
  if (forms.empty()) return &fusion;
  std::vector<const Form*> fits;
  std::vector<std::string> all, open;
  for (const Form& form : forms) {
    const Axes& axes = parts_here ? form.fusion.whole() : form.fusion.parts()[0].axes;
    const std::string text = fmt::format("{} '{}'", form.name, axes.text());
    all.push_back(text);
    Sizes own = sizes;
    if (!axes.Solve(shape, &own)) continue;
    if (form.name == wanted) return &form.fusion;
    fits.push_back(&form);
    open.push_back(text);
  }
  if (fits.size() == 1) return &fits[0]->fusion;
  if (fits.empty())
    return std::unexpected(
        Error{.kind = ErrorKind::kMapping,
              .found = fmt::format("the shape {} is no form of it", ShapeText(shape)),
              .expected = fmt::format("{}", fmt::join(all, " or ")),
              .help = "give the config.json of this model by --assets-from"});
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .found = fmt::format("the shape {} may be {}", ShapeText(shape),
                                 fmt::join(open, " or ")),
            .expected = "sizes that leave only one of these forms, or to be told which it is",
            .help = fmt::format("say --hub-form {}", fmt::join(Names(fits), " or --hub-form "))});
}

Result<Mapping> SourceTensors(const Catalog& catalog, const std::vector<Regex>& ignore) {
  Mapping mapping;
  for (size_t i = 0; i < catalog.tensors().size(); ++i) {
    const Tensor& tensor = catalog.tensors()[i];
    const Regex* ignored = nullptr;
    for (const Regex& regex : ignore) {
      RESHARD_ASSIGN(const bool found, regex.Search(tensor.name));
      if (found) ignored = &regex;
    }
    if (ignored)
      mapping.dropped.push_back({tensor.name, static_cast<uint64_t>(tensor.byte_size()),
                                 fmt::format("--ignore '{}'", ignored->pattern()),
                                 LeftOutBy::kIgnore});
    else
      mapping.tensors.push_back(
          {tensor.name, View::Source(static_cast<uint32_t>(i), tensor.dtype, tensor.shape)});
  }
  return mapping;
}

std::optional<int64_t> BoundRecipe::LookUp(size_t scope, std::string_view name) const {
  const Sizes& sizes = sizes_[scope];
  if (const auto at = sizes.find(name); at != sizes.end()) return at->second;
  if (const auto at = environment_.find(name); at != environment_.end()) return at->second;
  for (const std::string& root : recipe_->scopes()[scope].roots)
    if (const auto value =
            config_->Number(root.empty() ? std::string(name) : fmt::format("{}.{}", root, name)))
      return value;
  return std::nullopt;
}

const std::vector<int64_t>* BoundRecipe::LookUpList(size_t scope, std::string_view name) const {
  for (const std::string& root : recipe_->scopes()[scope].roots) {
    const std::string path = root.empty() ? std::string(name) : fmt::format("{}.{}", root, name);
    if (const auto* list = config_->List(path)) return list;
  }
  return nullptr;
}

Result<std::optional<int64_t>> BoundRecipe::Evaluate(const Expression& expression, size_t scope,
                                                     std::optional<int64_t> layer) const {
  return expression.Evaluate(
      [&](std::string_view name) { return layer && name == "layer" ? layer : LookUp(scope, name); },
      [&](std::string_view name) { return LookUpList(scope, name); });
}

Result<BoundRecipe> BoundRecipe::Bind(const Recipe& recipe, const ModelConfig& config,
                                      Sizes environment) {
  BoundRecipe bound;
  bound.recipe_ = &recipe;
  bound.config_ = &config;
  bound.environment_ = std::move(environment);
  const auto name_file = [&](auto result) {
    if (!result && result.error().file.empty())
      result.error().file = config.file().empty() ? recipe.name() : config.file();
    return result;
  };
  for (const Scope& scope : recipe.scopes()) {
    const size_t number = bound.sizes_.size();
    bound.sizes_.emplace_back();
    for (const auto& [name, expression] : scope.sizes) {
      RESHARD_ASSIGN(const auto value, name_file(bound.Evaluate(expression, number)));
      if (value) bound.sizes_[number][name] = *value;
    }
    for (const auto& [part, expression] : scope.layers) {
      RESHARD_ASSIGN(const auto value, name_file(bound.Evaluate(expression, number)));
      if (value) bound.layers_.emplace(part, *value);
    }
  }
  for (const int turn : {0, 1, 2})
    for (const Rule& rule : recipe.rules()) {
      if (TurnOf(rule) != turn) continue;
      if (rule.when) {
        RESHARD_ASSIGN(const auto holds, name_file(bound.Evaluate(*rule.when, rule.scope)));
        if (holds.value_or(0) == 0) continue;
      }
      for (const Rule* other : bound.active_)
        if (Clash(*other, rule))
          return std::unexpected(
              Error{.kind = ErrorKind::kMapping,
                    .file = recipe.name(),
                    .found = fmt::format("the rules for '{}' and '{}' both hold for this model",
                                         NameOf(*other), NameOf(rule)),
                    .expected = "conditions that exclude each other"});
      bound.active_.push_back(&rule);
    }
  return bound;
}

Result<> BoundRecipe::CheckPart(const std::string& part, std::string_view what) const {
  if (std::ranges::any_of(recipe_->rules(),
                          [&](const Rule& rule) { return rule.stage.part == part; }))
    return {};
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .file = recipe_->name(),
            .found = fmt::format("{}-{} for a recipe without a part '{}'", part, what, part),
            .expected = "only the parts that its stages name"});
}

Result<> BoundRecipe::CheckRefusals(const LayoutRequest& layout) const {
  BoundRecipe bound = *this;
  for (const auto& [part, rows] : layout.part_layers)
    RESHARD_TRY(CheckPart(part, "pp-layers"));
  for (const auto& [part, size] : layout.part_tp) RESHARD_TRY(CheckPart(part, "tp"));
  for (const Rule& rule : recipe_->rules())
    if (const std::string& part = rule.stage.part; !part.empty()) {
      const auto own = layout.part_tp.find(part);
      bound.environment_[part + "_tp"] = own == layout.part_tp.end() ? layout.tp : own->second;
    }
  for (const Refusal& refusal : recipe_->refusals()) {
    if (!refusal.when) continue;
    RESHARD_ASSIGN(const auto holds, bound.Evaluate(*refusal.when, refusal.scope));
    if (holds.value_or(0) != 0)
      return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                   .file = recipe_->name(),
                                   .found = refusal.why,
                                   .expected = fmt::format("not: {}", refusal.when->text())});
  }
  return {};
}

Result<> BoundRecipe::CheckSettings(const std::map<std::string, int64_t>& said) const {
  const auto differs = [&](std::string found, const Expression& expected, int64_t value) {
    const bool fixed = expected.Names().empty();
    return std::unexpected(Error{
        .kind = ErrorKind::kMapping,
        .file = config_->file(),
        .found = fmt::format("the ranks' files say that the model was trained with {}", found),
        .expected = fixed ? fmt::format("{}: recipe '{}' knows the weights of no other setting",
                                        value, recipe_->name())
                          : fmt::format("{}, as '{}' of config.json says", value, expected.text()),
        .help = fixed ? "export the model with the program that trained it, then convert that"
                      : "give the config.json of this very model by --assets-from, or set in it what "
                        "the files say"});
  };
  for (size_t scope = 0; scope < recipe_->scopes().size(); ++scope)
    for (const auto& [name, expected] : recipe_->scopes()[scope].settings) {
      if (name.ends_with('?')) continue;  // the tensors decide
      // Without a config.json an expression is a default, which nobody has said.
      if (config_->file().empty() && !expected.Names().empty()) continue;
      RESHARD_ASSIGN(const auto value, Evaluate(expected, scope));
      if (!value) continue;
      if (const auto at = said.find(name); at != said.end()) {
        if (at->second != *value)
          return differs(fmt::format("args.{} = {}", name, at->second), expected, *value);
        continue;
      }
      // A text is a flag of its own: normalization.RMSNorm. There it may be another one.
      const size_t dot = name.find('.');
      if (dot == std::string::npos) continue;
      const auto other = said.lower_bound(name.substr(0, dot + 1));
      if (*value == 1 && other != said.end() && other->first.starts_with(name.substr(0, dot + 1)))
        return differs(fmt::format("args.{}", other->first), expected, *value);
    }
  return {};
}

std::optional<BoundRecipe::Match> BoundRecipe::Find(std::string_view name, bool hub) const {
  std::optional<Match> leads_nowhere;
  for (const Rule* rule : active_) {
    if (rule->kind == (hub ? Rule::Kind::kCopy : Rule::Kind::kTie)) continue;
    const std::vector<Pattern>& patterns = hub ? rule->hub : rule->here;
    for (size_t member = 0; member < patterns.size(); ++member) {
      auto captures = patterns[member].Match(name);
      if (!captures) continue;
      const bool leads = rule->index.empty() || Cross(*rule, *captures, !hub);
      Match match{rule, member, std::move(*captures)};
      if (leads) return match;
      if (!leads_nowhere) leads_nowhere = std::move(match);
    }
  }
  return leads_nowhere;
}

std::string BoundRecipe::PartOf(const std::string& hub) const {
  const auto match = FindHub(Canonical(hub));
  return match ? match->rule->stage.part : std::string();
}

std::optional<int64_t> BoundRecipe::CrossIndex(const Rule& rule, const IndexMap& map, int64_t value,
                                               bool to_hub) const {
  if (map.offset) {
    const auto offset = Evaluate(*map.offset, rule.scope);
    if (!offset || !*offset) return std::nullopt;
    if (**offset == INT64_MIN) return std::nullopt;
    return CheckedAdd(value, to_hub ? -**offset : **offset);
  }
  const auto* table = LookUpList(rule.scope, map.table);
  if (!table) return std::nullopt;
  if (!to_hub)
    return value >= 0 && value < std::ssize(*table) ? std::optional((*table)[value]) : std::nullopt;
  const auto at = std::ranges::find(*table, value);
  return at == table->end() ? std::nullopt : std::optional(at - table->begin());
}

Result<bool> BoundRecipe::IsIn(const Rule& rule, int64_t number, bool hub) const {
  int64_t layer = number;
  for (const auto& [here, map] : rule.index) {
    if (here != "layer" && map.from != "layer") continue;
    const auto crossed = CrossIndex(rule, map, number, !hub);
    if (!crossed || *crossed < 0) return false;
    if (hub == (here == "layer")) layer = *crossed;
  }
  for (const LayerCondition& where : rule.where) {
    RESHARD_ASSIGN(const auto holds, Evaluate(where.holds, where.scope, layer));
    if (holds.value_or(0) == 0) return false;
  }
  return true;
}

// The captures as the other side's names have them.
std::optional<Captures> BoundRecipe::Cross(const Rule& rule, const Captures& from,
                                           bool to_hub) const {
  Captures out = from;
  for (const auto& [here, map] : rule.index) {
    const std::string& source = to_hub ? here : map.from;
    const std::string& target = to_hub ? map.from : here;
    const auto value = ParseIndex(from.at(source));
    const auto crossed = value ? CrossIndex(rule, map, *value, to_hub) : std::nullopt;
    if (!crossed || *crossed < 0) return std::nullopt;
    out.erase(source);
    out[target] = fmt::to_string(*crossed);
  }
  return out;
}

std::string BoundRecipe::Nearest(std::string_view name, bool hub) const {
  const Pattern* nearest = nullptr;
  size_t least = 0;
  for (const Rule* rule : active_) {
    if (rule->kind == Rule::Kind::kDrop && hub) continue;
    for (const Pattern& pattern : hub ? rule->hub : rule->here)
      if (const size_t distance = pattern.Distance(name); !nearest || distance < least) {
        nearest = &pattern;
        least = distance;
      }
  }
  return nearest ? nearest->text() : std::string();
}

Error BoundRecipe::NoRule(std::string_view name, bool hub) const {
  for (const Refusal& refusal : recipe_->refusals())
    for (const Pattern& pattern : refusal.hub)
      if (hub && pattern.Match(name))
        return Error{.kind = ErrorKind::kMapping,
                     .tensor = std::string(name),
                     .found = refusal.why,
                     .expected = fmt::format("no tensor like '{}'", pattern.text())};
  return Error{
      .kind = ErrorKind::kMapping,
      .tensor = std::string(name),
      .found = fmt::format("recipe '{}' has no rule for this tensor", recipe_->name()),
      .expected = fmt::format("a name like its nearest rule, '{}'", Nearest(name, hub)),
      .help = NamesScales(name)
                  ? std::string("--dequantize multiplies float8 weights with their scales")
                  : fmt::format("choose another recipe with --recipe (reshard recipe list), or drop "
                                "the tensor with --ignore '^{}$'",
                                Regex::Escape(name))};
}

std::string BoundRecipe::Canonical(const std::string& name, bool hub) const {
  for (const Recipe::Alias& alias : recipe_->aliases())
    if (alias.hub == hub)
      if (const auto captures = alias.other.Match(name)) return alias.name.Fill(*captures);
  return name;
}

std::string BoundRecipe::Spelled(const std::string& hub,
                                 const std::set<std::string>& spelling) const {
  if (spelling.empty() || spelling.contains(hub)) return hub;
  for (const Recipe::Alias& alias : recipe_->aliases())
    if (const auto captures = alias.hub ? alias.name.Match(hub) : std::nullopt)
      if (std::string other = alias.other.Fill(*captures); spelling.contains(other)) return other;
  return hub;
}

}  // namespace reshard
