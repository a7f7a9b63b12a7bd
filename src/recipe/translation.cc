#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/try.h"
#include "recipe/bound_recipe.h"
#include "recipe/index_text.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

void ReplaceAll(std::string* text, std::string_view what, std::string_view with) {
  for (size_t at = text->find(what); at != std::string::npos; at = text->find(what, at)) {
    text->replace(at, what.size(), with);
    at += with.size();
  }
}

constexpr int64_t kMaxPlaces = int64_t{1} << 20;

// No one pads by as much again: then the size is not the vocabulary's.
bool IsTooMuchPadding(int64_t padding, int64_t size) { return padding >= size; }

}  // namespace

// One way through a recipe: takes tensors of one side, in any order, and gives those of the other.
class BoundRecipe::Translation {
 public:
  Translation(const BoundRecipe& recipe, bool to_hub, const Padding& padding,
              const HubStyle& style, Mapping* mapping, bool keep_unknown = false)
      : recipe_(recipe),
        to_hub_(to_hub),
        keep_unknown_(keep_unknown),
        padding_(padding),
        style_(style),
        mapping_(mapping) {
    for (const auto& [name, shape] : style.shapes) like_[recipe.Canonical(name)] = &shape;
  }

  Result<> Run() {
    std::vector<NamedView> tensors = std::move(mapping_->tensors);
    mapping_->tensors.clear();
    std::ranges::sort(tensors, {}, &NamedView::name);
    RESHARD_TRY(MakeCanonical(&tensors));
    inputs_ = &tensors;
    for (const NamedView& tensor : tensors)
      if (auto taken = Take(tensor); !taken) {
        if (taken.error().tensor.empty()) taken.error().tensor = tensor.name;
        return taken;
      }
    for (auto& [key, group] : groups_)
      if (auto fused = FuseGroup(group); !fused) {
        if (fused.error().tensor.empty()) fused.error().tensor = group.name;
        return fused;
      }
    if (!to_hub_) RESHARD_TRY(MakeCopies());
    for (Pending& copy : copies_) {
      const auto at = origin_.find(copy.name);
      if (at == origin_.end())
        return std::unexpected(
            Error{.kind = ErrorKind::kMapping,
                  .tensor = copy.from,
                  .found = fmt::format("it repeats '{}', which is not there", copy.name),
                  .expected = "both"});
      RESHARD_TRY(AddCheck(copy.from, std::move(copy.view),
                           mapping_->tensors[at->second.index].view,
                           fmt::format("another copy of what becomes '{}'", copy.name)));
    }
    std::ranges::sort(mapping_->tensors, {}, &NamedView::name);
    return {};
  }

 private:
  // Tensors that become one, until all are there.
  struct Group {
    const Rule* rule;
    Captures captures;  // of the output's side
    std::string name;   // of the first that came
    std::map<size_t, std::vector<std::optional<View>>> places;
  };
  struct Pending {
    std::string name;
    View view;
    std::string from;
  };
  struct Origin {
    std::string from;
    size_t index;
  };

  const std::vector<Pattern>& In(const Rule& rule) const { return to_hub_ ? rule.here : rule.hub; }
  const std::vector<Pattern>& Out(const Rule& rule) const { return to_hub_ ? rule.hub : rule.here; }

  Result<> MakeCanonical(std::vector<NamedView>* tensors) {
    for (NamedView& tensor : *tensors) {
      std::string name = recipe_.Canonical(tensor.name, !to_hub_);
      if (name == tensor.name) continue;
      renamed_.insert(name);
      tensor.name = std::move(name);
    }
    std::ranges::sort(*tensors, {}, &NamedView::name);
    const auto twice = std::ranges::adjacent_find(*tensors, {}, &NamedView::name);
    if (twice == tensors->end()) return {};
    return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                 .tensor = twice->name,
                                 .found = "the source has this tensor in two spellings",
                                 .expected = "each tensor once"});
  }

  const NamedView* Input(const std::string& name) const {
    const auto at = std::ranges::lower_bound(*inputs_, name, {}, &NamedView::name);
    return at != inputs_->end() && at->name == name ? &*at : nullptr;
  }

  Result<> Take(const NamedView& tensor) {
    const auto match = to_hub_ ? recipe_.FindHere(tensor.name) : recipe_.FindHub(tensor.name);
    if (!match && keep_unknown_) return GiveFresh(tensor.name, tensor.view, tensor.name);
    if (!match) return std::unexpected(recipe_.NoRule(tensor.name, !to_hub_));
    const Rule& rule = *match->rule;
    if (rule.kind == Rule::Kind::kDrop) {
      // Only a name of the source can be called dropped; a hub name may be another.
      if (to_hub_ && !renamed_.contains(tensor.name))
        mapping_->dropped.push_back({tensor.name, tensor.view.byte_size(), rule.note});
      else
        mapping_->dropped_parts.push_back({tensor.name, tensor.view, rule.note});
      return {};
    }
    if (rule.zeros) {
      RESHARD_ASSIGN(View zeros, View::Fill(tensor.view.dtype(), tensor.view.shape()));
      return AddCheck(tensor.name, tensor.view, std::move(zeros),
                      fmt::format("the hub has no place for it; --ignore '^{}$' leaves it out",
                                  Regex::Escape(tensor.name)));
    }
    if (rule.kind == Rule::Kind::kTie) {
      const std::string of = rule.here[0].Fill(match->captures);
      if (const NamedView* other = Input(of))
        return AddCheck(tensor.name, tensor.view, other->view,
                        fmt::format("tied to '{}', and only that one is kept", of));
      return std::unexpected(
          Error{.kind = ErrorKind::kMapping,
                .tensor = tensor.name,
                .found = fmt::format("it is tied to '{}', which is not there", of),
                .expected = "both"});
    }
    const auto captures = recipe_.Cross(rule, match->captures, to_hub_);
    if (!captures)
      return std::unexpected(
          Error{.kind = ErrorKind::kMapping,
                .tensor = tensor.name,
                .found = "its number is in no table of the model's config.json",
                .expected = fmt::format("one that '{}' can be", In(rule)[match->member].text())});
    if (rule.parts_here != to_hub_) return Split(tensor, rule, *captures);
    return Collect(tensor, *match, *captures);
  }

  Result<> Collect(const NamedView& tensor, const Match& match, Captures captures) {
    const Rule& rule = *match.rule;
    size_t place = 0;
    if (const std::string& stacked = rule.fusion.stacked(); !stacked.empty()) {
      const auto number = ParseIndex(captures.at(stacked));
      if (!number || *number > kMaxPlaces)
        return std::unexpected(Error{
            .kind = ErrorKind::kMapping,
            .tensor = tensor.name,
            .found = fmt::format("'{}' is no place along axis '{}'", captures.at(stacked), stacked),
            .expected = "a number from 0 on"});
      place = static_cast<size_t>(*number);
      captures.erase(stacked);
    }
    std::string key = fmt::format("{}", static_cast<const void*>(&rule));
    for (const auto& [name, value] : captures) key += "\n" + value;
    const auto [at, fresh] = groups_.try_emplace(key, Group{&rule, captures, tensor.name, {}});
    auto& views = at->second.places[place];
    views.resize(rule.parts().size());
    views[match.member] = tensor.view;
    return {};
  }

  // Which of its forms the hub's tensor has, or is to have.
  Result<const Fusion*> FusionOf(const Rule& rule, const View& input, const Captures& out) const {
    if (!to_hub_) return rule.FusionFor(input.shape(), recipe_.sizes(rule), style_.form);
    if (rule.forms.empty() || like_.empty()) return &rule.FusionOf(style_.form);
    const auto like = like_.find(rule.hub[0].Fill(out));
    if (like == like_.end()) return &rule.FusionOf(style_.form);
    return rule.FusionFor(*like->second, recipe_.sizes(rule), style_.form);
  }

  Result<> FuseGroup(Group& group) {
    const Rule& rule = *group.rule;
    std::vector<std::vector<View>> tensors;
    for (const auto& [place, views] : group.places) {
      if (place != tensors.size()) return Missing(group, tensors.size(), 0);
      auto& row = tensors.emplace_back();
      for (size_t member = 0; member < views.size(); ++member) {
        if (!views[member]) return Missing(group, place, member);
        row.push_back(*views[member]);
      }
    }
    RESHARD_ASSIGN(const Fusion* const fusion, FusionOf(rule, tensors[0][0], group.captures));
    RESHARD_ASSIGN(View whole, fusion->Fuse(tensors, recipe_.sizes(rule)));
    if (!to_hub_ && !rule.pad.empty()) {
      RESHARD_ASSIGN(whole, Pad(rule, std::move(whole)));
    }
    return Give(rule, Out(rule)[0].Fill(group.captures), std::move(whole), group.name);
  }

  std::unexpected<Error> Missing(const Group& group, size_t place, size_t member) const {
    Captures captures = *recipe_.Cross(*group.rule, group.captures, !to_hub_);
    if (!group.rule->fusion.stacked().empty())
      captures[group.rule->fusion.stacked()] = fmt::to_string(place);
    const std::string missing = In(*group.rule)[member].Fill(captures);
    return std::unexpected(Error{
        .kind = ErrorKind::kMapping,
        .tensor = missing,
        .found = fmt::format("it is not there, but '{}' is", group.name),
        .expected = fmt::format("all that make '{}'", Out(*group.rule)[0].Fill(group.captures)),
        .help = "is a file of the source missing?"});
  }

  Result<> Split(const NamedView& tensor, const Rule& rule, Captures captures) {
    View whole = tensor.view;
    if (to_hub_ && !rule.pad.empty()) {
      RESHARD_ASSIGN(whole, Trim(rule, tensor));
    }
    if (!rule.fusion.stacked().empty()) captures[rule.fusion.stacked()] = "0";
    RESHARD_ASSIGN(const Fusion* const fusion, FusionOf(rule, whole, captures));
    RESHARD_ASSIGN(const auto tensors, fusion->Split(whole, recipe_.sizes(rule)));
    for (size_t place = 0; place < tensors.size(); ++place) {
      if (!rule.fusion.stacked().empty()) captures[rule.fusion.stacked()] = fmt::to_string(place);
      size_t member = 0;
      for (size_t i = 0; i < tensors[place].size(); ++i) {
        const View& view = tensors[place][i];
        if (fusion->parts()[i].zero) {
          RESHARD_ASSIGN(View zeros, View::Fill(view.dtype(), view.shape()));
          RESHARD_TRY(AddCheck(tensor.name, view, std::move(zeros), "zeros that the recipe adds"));
        } else {
          RESHARD_TRY(Give(rule, Out(rule)[member++].Fill(captures), view, tensor.name));
        }
      }
    }
    return {};
  }

  // Tensors that a rule repeats: made again from what it repeats.
  Result<> MakeCopies() {
    for (const Rule* rule : recipe_.active_) {
      if (rule->kind != Rule::Kind::kCopy) continue;
      for (const NamedView& tensor : *inputs_) {
        const auto captures = rule->hub[0].Match(tensor.name);
        if (!captures) continue;
        if (rule->zeros) {
          RESHARD_TRY(GiveZeros(*rule, rule->here[0].Fill(*captures), tensor.name));
          continue;
        }
        RESHARD_ASSIGN(View whole, rule->fusion.Fuse({{tensor.view}}, recipe_.sizes(*rule)));
        if (!rule->pad.empty()) {
          RESHARD_ASSIGN(whole, Pad(*rule, std::move(whole)));
        }
        RESHARD_TRY(
            GiveFresh(rule->here[0].Fill(*captures), View::Repeat(whole), tensor.name));
      }
    }
    return {};
  }

  Result<> GiveZeros(const Rule& rule, std::string name, const std::string& from) {
    Shape open;
    for (const Axis& axis : rule.fusion.whole().Flat()) {
      const auto size = SizeOf(axis, recipe_.sizes(rule));
      if (!size)
        return std::unexpected(
            Error{.kind = ErrorKind::kMapping,
                  .tensor = from,
                  .found = fmt::format("the size of '{}' in '{}' is not known", axis.name, name),
                  .expected = "one that the model's config.json gives",
                  .help = "give the model's config.json by --assets-from"});
      open.push_back(*size);
    }
    RESHARD_ASSIGN(const View zeros, View::Fill(*rule.zeros, std::move(open)));
    RESHARD_ASSIGN(View whole, rule.fusion.whole().Close(zeros));
    return GiveFresh(std::move(name), std::move(whole), from);
  }

  Result<View> Pad(const Rule& rule, View view) const {
    int64_t rows = padding_.rows;
    const int64_t have = view.shape()[0];
    if (padding_.multiple > 0)
      rows = (have + padding_.multiple - 1) / padding_.multiple * padding_.multiple;
    if (rows == 0 || rows == have) return view;
    if (rows < have)
      return std::unexpected(
          Error{.kind = ErrorKind::kMapping,
                .found = fmt::format("axis '{}' has {} rows", rule.pad, have),
                .expected = fmt::format("at most the {} of --pad-vocab-to", rows)});
    if (IsTooMuchPadding(rows - have, have))
      return std::unexpected(
          Error{.kind = ErrorKind::kMapping,
                .found = fmt::format("--pad-vocab-to asks for {} rows of padding", rows - have),
                .expected = fmt::format("fewer than the {} that axis '{}' has", have, rule.pad),
                .help = "whoever reads that cannot tell padding from a vocabulary of another size"});
    Shape rest = view.shape();
    rest[0] = rows - have;
    std::vector<View> parts{view};
    if (padding_.last_row) {
      RESHARD_ASSIGN(const View last, View::Slice(view, 0, have - 1, 1));
      parts.resize(static_cast<size_t>(1 + rows - have), View::Repeat(last));
    } else {
      RESHARD_ASSIGN(View zeros, View::Fill(view.dtype(), rest));
      parts.push_back(std::move(zeros));
    }
    return View::Concat(std::move(parts), 0);
  }

  // Leaves out rows of padding, by name.
  Result<View> Trim(const Rule& rule, const NamedView& tensor) {
    const Sizes& sizes = recipe_.sizes(rule);
    const auto size = sizes.find(rule.pad);
    const int64_t rows = tensor.view.shape().empty() ? 0 : tensor.view.shape()[0];
    if (size == sizes.end())
      return std::unexpected(
          Error{.kind = ErrorKind::kMapping,
                .tensor = tensor.name,
                .found = fmt::format("{} rows, some of which may be padding", rows),
                .expected = fmt::format("to know '{}' from the model's config.json", rule.pad),
                .help = "give the model's config.json by --assets-from"});
    if (rows <= size->second) return tensor.view;
    const int64_t padding = rows - size->second;
    if (padding_.rows != rows &&
        (IsTooMuchPadding(padding, size->second) || padding >= padding_.most))
      return std::unexpected(Error{
          .kind = ErrorKind::kMapping,
          .tensor = tensor.name,
          .found = fmt::format("it has {} rows, {} more than config.json says", rows, padding),
          .expected = fmt::format("'{}' rows, {}, and fewer than {} of padding behind them", rule.pad,
                                  size->second, std::min(padding_.most, size->second)),
          .help = fmt::format("if the model's vocabulary is larger, set it in config.json; if all "
                              "rows from {} on are padding, say --pad-vocab-to {}",
                              size->second, rows)});
    RESHARD_ASSIGN(View rest, View::Slice(tensor.view, 0, size->second, rows - size->second));
    const std::string name = fmt::format("rows {} to {} of {}", size->second, rows, tensor.name);
    mapping_->dropped_parts.push_back(
        {name, std::move(rest), "padding of the vocabulary", LeftOutBy::kPadding});
    return View::Slice(tensor.view, 0, 0, size->second);
  }

  Result<> AddCheck(const std::string& name, View view, View equals, std::string why) {
    if (view.shape() != equals.shape() || view.dtype() != equals.dtype())
      return std::unexpected(Error{
          .kind = ErrorKind::kMapping,
          .tensor = name,
          .found = fmt::format("{} {}", DTypeName(view.dtype()), ShapeText(view.shape())),
          .expected =
              fmt::format("{} {}: {}", DTypeName(equals.dtype()), ShapeText(equals.shape()), why)});
    mapping_->checks.push_back({name, std::move(view), std::move(equals), std::move(why)});
    return {};
  }

  Result<> Give(const Rule& rule, std::string name, View view, const std::string& from) {
    if (rule.kind == Rule::Kind::kCopy) {
      copies_.push_back({std::move(name), std::move(view), from});
      return {};
    }
    if (!rule.note.empty() && to_hub_) {
      std::string warning = rule.note;
      ReplaceAll(&warning, "{here}", from);
      ReplaceAll(&warning, "{hub}", name);
      mapping_->warnings.push_back(std::move(warning));
    }
    return GiveFresh(std::move(name), std::move(view), from);
  }

  Result<> GiveFresh(std::string name, View view, const std::string& from) {
    const auto [at, fresh] = origin_.emplace(name, Origin{from, mapping_->tensors.size()});
    if (!fresh)
      return std::unexpected(Error{
          .kind = ErrorKind::kMapping,
          .tensor = from,
          .found = fmt::format("'{}' and '{}' both become '{}'", at->second.from, from, name),
          .expected = "one tensor for each name",
          .help = fmt::format("choose another recipe with --recipe, or drop one of the two with "
                              "--ignore '^{}$'",
                              Regex::Escape(from))});
    mapping_->tensors.push_back({std::move(name), std::move(view)});
    return {};
  }

  const BoundRecipe& recipe_;
  const bool to_hub_;
  const bool keep_unknown_;
  const Padding& padding_;
  const HubStyle& style_;
  std::map<std::string, const Shape*> like_;  // of the style, by the hub's own spelling
  Mapping* mapping_;
  const std::vector<NamedView>* inputs_ = nullptr;
  std::set<std::string> renamed_;  // names of inputs that the source spells otherwise
  std::map<std::string, Group> groups_;
  std::map<std::string, Origin, std::less<>> origin_;  // output name -> what it came from
  std::vector<Pending> copies_;
};

Result<> BoundRecipe::ToHub(Mapping* mapping, const HubStyle& style,
                            const Padding& padding) const {
  RESHARD_TRY(Translation(*this, true, padding, style, mapping).Run());
  for (NamedView& tensor : mapping->tensors) tensor.name = Spelled(tensor.name, style.names);
  std::ranges::sort(mapping->tensors, {}, &NamedView::name);
  return {};
}

Result<> BoundRecipe::FromHub(Mapping* mapping, const Padding& padding, const std::string& form,
                              bool keep_unknown) const {
  return Translation(*this, false, padding, {.form = form}, mapping, keep_unknown).Run();
}

}  // namespace reshard
