#include <fmt/format.h>

#include <algorithm>

#include "base/try.h"
#include "recipe/bound_recipe.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

const NamedView* FindTensor(const std::vector<NamedView>& tensors, const std::string& name) {
  const auto at = std::ranges::find(tensors, name, &NamedView::name);
  return at == tensors.end() ? nullptr : &*at;
}

// The name here of what the copy repeats.
Result<std::string> NameOfOriginal(const BoundRecipe& recipe, const Rule& copy,
                                   const Captures& captures) {
  const auto original = recipe.FindHub(copy.hub[0].Fill(captures));
  if (original && original->rule->fusion.whole().text() == copy.fusion.whole().text() &&
      original->rule->here.size() == 1 && original->rule->hub.size() == 1 &&
      original->rule->index.empty() && original->rule->fusion.stacked().empty())
    return original->rule->here[0].Fill(original->captures);
  return std::unexpected(Error{.kind = ErrorKind::kMapping,
                               .tensor = copy.here[0].text(),
                               .found = "the recipe copies a tensor that it does not keep as it is",
                               .expected = "a [[rule]] with the same map",
                               .help = "convert to the hub's layout first"});
}

}  // namespace

Result<> Resplit(const BoundRecipe& from, const BoundRecipe& to, Mapping* mapping) {
  std::vector<NamedView> kept;
  std::vector<std::pair<NamedView, std::string>> copies;
  for (NamedView& tensor : mapping->tensors) {
    const auto match = from.FindHere(tensor.name);
    if (match && match->rule->kind == Rule::Kind::kCopy) {
      RESHARD_ASSIGN(std::string original, NameOfOriginal(from, *match->rule, match->captures));
      copies.emplace_back(std::move(tensor), std::move(original));
    } else {
      kept.push_back(std::move(tensor));
    }
  }
  for (auto& [copy, name] : copies) {
    const NamedView* original = FindTensor(kept, name);
    if (!original || original->view.shape() != copy.view.shape() ||
        original->view.dtype() != copy.view.dtype())
      return std::unexpected(Error{
          .kind = ErrorKind::kMapping,
          .tensor = copy.name,
          .found = "it repeats a tensor that is not there, or not alike",
          .expected = fmt::format("'{}' with the shape {}", name, ShapeText(copy.view.shape()))});
    mapping->checks.push_back(
        {copy.name, copy.view, original->view, fmt::format("another copy of '{}'", name)});
  }
  std::vector<NamedView> made;
  for (const Rule* rule : to.rules()) {
    if (rule->kind != Rule::Kind::kCopy) continue;
    // The original by the captures of the copy, which has the same.
    for (const NamedView& tensor : kept) {
      const auto match = to.FindHere(tensor.name);
      if (!match || match->rule->kind != Rule::Kind::kMove || match->rule->hub.size() != 1 ||
          !match->rule->index.empty() || match->rule->here.size() != 1 ||
          !match->rule->fusion.stacked().empty())
        continue;
      const auto captures = rule->hub[0].Match(match->rule->hub[0].Fill(match->captures));
      if (!captures) continue;
      RESHARD_ASSIGN(const std::string name, NameOfOriginal(to, *rule, *captures));
      if (name == tensor.name)
        made.push_back({rule->here[0].Fill(*captures), View::Repeat(tensor.view)});
    }
  }
  kept.insert(kept.end(), made.begin(), made.end());
  mapping->tensors = std::move(kept);
  std::ranges::sort(mapping->tensors, {}, &NamedView::name);
  return {};
}

}  // namespace reshard
