#include "recipe/recipe_checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/try.h"

namespace reshard {
namespace {

// The names that a rule claims on a side: no other rule may claim one of them.
const std::vector<Pattern>* Claims(const Rule& rule, bool hub) {
  if (hub) return rule.kind == Rule::Kind::kCopy ? nullptr : &rule.hub;
  return rule.kind == Rule::Kind::kTie ? nullptr : &rule.here;
}

bool HoldsTensors(const Rule& rule) {
  return rule.kind == Rule::Kind::kMove || rule.kind == Rule::Kind::kCopy;
}

bool HasCapture(const Pattern& pattern, std::string_view name) {
  const auto names = pattern.CaptureNames();
  return std::ranges::find(names, name) != names.end();
}

bool AnyOverlap(const std::vector<Pattern>& some, const std::vector<Pattern>& others) {
  return std::ranges::any_of(some, [&](const Pattern& a) {
    return std::ranges::any_of(others, [&](const Pattern& b) { return Pattern::Overlap(a, b); });
  });
}

}  // namespace

std::unexpected<Error> Recipe::Checks::Fault(size_t rule, std::string found,
                                             std::string expected) const {
  return FaultAt(places_[rule], std::move(found), std::move(expected));
}

std::unexpected<Error> Recipe::Checks::FaultAt(const std::string& place, std::string found,
                                               std::string expected) const {
  return std::unexpected(Error{.kind = ErrorKind::kUsage,
                               .file = place,
                               .found = std::move(found),
                               .expected = std::move(expected),
                               .help = "see docs/recipes.md for the language of recipes"});
}

Result<> Recipe::Checks::Run() const {
  RESHARD_TRY(CheckConditions());
  RESHARD_TRY(CheckOverlaps());
  RESHARD_TRY(CheckStages());
  RESHARD_TRY(CheckExperts());
  RESHARD_TRY(CheckAxes());
  RESHARD_TRY(CheckAlternatives());
  return CheckAliases();
}

// A misspelt name is unknown, so its condition would never hold, unseen. With a dot it is one of the
// config, which only a model shows.
Result<> Recipe::Checks::CheckConditions() const {
  constexpr std::array<std::string_view, 4> kOfLayout = {"tp", "pp", "vpp", "ep"};
  for (size_t i = 0; i < recipe_.rules_.size(); ++i) {
    const Rule& rule = recipe_.rules_[i];
    if (!rule.when) continue;
    for (const std::string& name : rule.when->Names())
      if (!name.contains('.') && !recipe_.scopes_[rule.scope].Declares(name) &&
          std::ranges::find(kOfLayout, name) == kOfLayout.end())
        return Fault(i, fmt::format("the condition '{}' asks for '{}'", rule.when->text(), name),
                     "a name of [sizes], or tp, pp, vpp or ep, or a value of config.json with dots");
  }
  return {};
}

Result<> Recipe::Checks::CheckOverlaps() const {
  const auto& rules = recipe_.rules_;
  for (size_t i = 0; i < rules.size(); ++i)
    for (size_t j = 0; j <= i; ++j) {
      const Rule &first = rules[j], &second = rules[i];
      // An `otherwise` gives way to what is before it. Conditions are known only with a model:
      // BoundRecipe looks at those.
      const auto waits = [](const Rule& rule) { return rule.otherwise || rule.when; };
      if (i != j && (waits(first) || waits(second))) continue;
      for (const bool hub : {false, true}) {
        const auto *a = Claims(first, hub), *b = Claims(second, hub);
        if (!a || !b) continue;
        for (size_t x = 0; x < a->size(); ++x)
          for (size_t y = 0; y < (i == j ? x : b->size()); ++y)
            if (Pattern::Overlap((*a)[x], (*b)[y]))
              return Fault(i, fmt::format("'{}' and '{}' can both claim one name", (*a)[x].text(),
                                          (*b)[y].text()));
      }
    }
  return {};
}

// A spelling that no rule reads, or that would hide a rule's own names, is a slip of the pen.
Result<> Recipe::Checks::CheckAliases() const {
  const auto claimed = [&](const Pattern& name, bool hub, bool otherwise) {
    return std::ranges::any_of(recipe_.rules_, [&](const Rule& rule) {
      const auto* names = Claims(rule, hub);
      return names && (otherwise || !rule.otherwise) && AnyOverlap(*names, {name});
    });
  };
  for (size_t i = 0; i < recipe_.aliases_.size(); ++i) {
    const Alias& alias = recipe_.aliases_[i];
    if (!claimed(alias.name, alias.hub, true))
      return FaultAt(alias_places_[i],
                     fmt::format("no rule has names like '{}'", alias.name.text()),
                     "a name of a rule");
    if (claimed(alias.other, alias.hub, false))
      return FaultAt(alias_places_[i],
                     fmt::format("'{}' is another spelling, but a rule claims such names as well",
                                 alias.other.text()),
                     "a name that no rule has");
  }
  return {};
}

bool Recipe::Checks::DealsOut() const {
  return std::ranges::any_of(
      recipe_.rules_, [](const Rule& rule) { return rule.stage.place == Stage::Place::kLayer; });
}

// Tensors of one layer stand on one stage, and a default must not decide where a tensor stands.
Result<> Recipe::Checks::CheckStages() const {
  if (!DealsOut()) return {};
  std::map<std::string, size_t> prefixes;  // "decoder.layers." -> a rule for it
  std::set<std::string> parts;
  for (const Rule& rule : recipe_.rules_)
    if (rule.stage.place == Stage::Place::kLayer) parts.insert(rule.stage.part);
  for (size_t i = 0; i < recipe_.rules_.size(); ++i) {
    const Rule& rule = recipe_.rules_[i];
    if (!HoldsTensors(rule)) continue;
    const std::string& name = rule.here[0].text();
    if (!rule.stage.said)
      return Fault(i, fmt::format("'{}' has no stage, where other rules have one", name),
                   "a 'stage': every, or PART.first, .last or .layer");
    if (!rule.stage.part.empty() && !parts.contains(rule.stage.part))
      return Fault(
          i, fmt::format("'{}' is of the part '{}', which has no layers", name, rule.stage.part),
          fmt::format("a part of a rule whose stage is {}.layer", *parts.begin()));
    for (const Pattern& pattern : rule.here) {
      const size_t layer = pattern.text().find("{layer}");
      if (layer == std::string::npos) continue;
      const auto [at, fresh] = prefixes.emplace(pattern.text().substr(0, layer), i);
      const Rule& other = recipe_.rules_[at->second];
      if (other.stage.place != rule.stage.place || other.stage.part != rule.stage.part)
        return Fault(i,
                     fmt::format("'{}' and '{}' are of the same layers, but of different stages",
                                 other.here[0].text(), pattern.text()),
                     "one 'stage' for all that is in a layer");
    }
  }
  return {};
}

Result<> Recipe::Checks::CheckExperts() const {
  std::map<std::string, size_t> dealt;  // captures that `ep` deals out
  for (size_t i = 0; i < recipe_.rules_.size(); ++i) {
    const Rule& rule = recipe_.rules_[i];
    if (!rule.ep.empty() && HasCapture(rule.here[0], rule.ep)) dealt.emplace(rule.ep, i);
  }
  for (size_t i = 0; i < recipe_.rules_.size(); ++i) {
    const Rule& rule = recipe_.rules_[i];
    if (!rule.ep.empty() && rule.ep == rule.tp)
      return Fault(i, fmt::format("both tp and ep cut '{}'", rule.tp), "two axes");
    for (const auto& [capture, other] : dealt)
      if (HoldsTensors(rule) && rule.ep != capture && HasCapture(rule.here[0], capture))
        return Fault(i,
                     fmt::format("ep deals out '{}' of '{}', but not of '{}'", capture,
                                 recipe_.rules_[other].here[0].text(), rule.here[0].text()),
                     fmt::format("ep = \"{}\" for both", capture));
  }
  return {};
}

// An axis that [sizes] names is the same in all rules of a file: cut in all of them or in none.
Result<> Recipe::Checks::CheckAxes() const {
  using AxisOfFile = std::pair<size_t, std::string>;  // scope and name
  std::map<AxisOfFile, size_t> cut, padded;
  for (size_t i = 0; i < recipe_.rules_.size(); ++i) {
    const Rule& rule = recipe_.rules_[i];
    const bool declared = recipe_.scopes_[rule.scope].Declares(rule.tp);
    if (!rule.tp.empty() && declared) cut.emplace(AxisOfFile{rule.scope, rule.tp}, i);
    if (rule.pad.empty()) continue;
    if (!recipe_.scopes_[rule.scope].Declares(rule.pad))
      return Fault(i,
                   fmt::format("[sizes] does not say how long '{}' is without padding", rule.pad),
                   "a size of that name");
    if (rule.fusion.parts().size() != 1 || !rule.fusion.parts()[0].axes.Leads(rule.pad) ||
        !rule.fusion.whole().Leads(rule.pad))
      return Fault(i, fmt::format("'{}' is padded along '{}'", rule.here[0].text(), rule.pad),
                   "padding of the first dimension, which is that axis alone, on both sides");
    padded.emplace(AxisOfFile{rule.scope, rule.pad}, i);
  }
  for (size_t i = 0; i < recipe_.rules_.size(); ++i) {
    const Rule& rule = recipe_.rules_[i];
    if (!HoldsTensors(rule)) continue;
    const auto differs = [&](const AxisOfFile& axis, const std::string& own) {
      if (axis.first != rule.scope || axis.second == own) return false;
      for (size_t member = 0; member < rule.here.size(); ++member)
        if (rule.here_axes(member).Has(axis.second)) return true;
      return false;
    };
    const auto fault = [&](const char* what, const std::string& axis, size_t other) {
      return Fault(i,
                   fmt::format("'{}' of '{}' is not {}, but that of '{}' is", axis,
                               rule.here[0].text(), what, recipe_.rules_[other].here[0].text()),
                   fmt::format("the same for both, or another name for the axis of one"));
    };
    for (const auto& [axis, other] : cut)
      if (differs(axis, rule.tp)) return fault("cut by tp", axis.second, other);
    for (const auto& [axis, other] : padded)
      if (differs(axis, rule.pad)) return fault("padded", axis.second, other);
  }
  return {};
}

// Where stages hold different tensors, a tensor that stands alone must be accounted for under every
// condition: one that the hub ties to another is a copy of that one, or nothing at all knows of it.
Result<> Recipe::Checks::CheckAlternatives() const {
  if (!DealsOut()) return {};
  for (size_t i = 0; i < recipe_.rules_.size(); ++i) {
    const Rule& rule = recipe_.rules_[i];
    if (rule.kind == Rule::Kind::kDrop && rule.otherwise)
      return Fault(i,
                   fmt::format("'{}' drops whatever the other rules have forgotten",
                               (rule.here.empty() ? rule.hub : rule.here)[0].text()),
                   "a [[drop]] that names what it drops, as the recipe deals out layers");
    const bool alone = rule.kind == Rule::Kind::kMove && rule.when && !rule.optional &&
                       rule.here[0].CaptureNames().empty() &&
                       rule.stage.place != Stage::Place::kEvery;
    if (!alone) continue;
    const auto ties = [&](const Rule& other) {
      return other.kind == Rule::Kind::kTie && AnyOverlap(other.hub, rule.hub);
    };
    const auto tie = std::ranges::find_if(recipe_.rules_, ties);
    const bool known = std::ranges::any_of(recipe_.rules_, [&](const Rule& other) {
      if (&other == &rule || !HoldsTensors(other) || !AnyOverlap(other.here, rule.here))
        return false;
      return tie == recipe_.rules_.end() || AnyOverlap(other.hub, tie->here);
    });
    if (!known)
      return Fault(i,
                   fmt::format("where '{}' does not hold, nothing says what '{}' is",
                               rule.when->text(), rule.here[0].text()),
                   "a [[copy]] or another [[rule]] for it, or optional = true");
  }
  return {};
}

}  // namespace reshard
