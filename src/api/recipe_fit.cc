#include "reshard/recipe_fit.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "api/flavors.h"
#include "base/try.h"
#include "checkpoints/hf/hf_config.h"
#include "checkpoints/megatron/rank_name.h"
#include "io/directory.h"
#include "plan/planner.h"
#include "reshard/convert.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// The config of the model: as asked, or with the weights, or beside the checkpoint.
Result<ModelConfig> ConfigOf(const RecipeFitRequest& request, const Source& source) {
  if (!request.assets_from.empty()) return ReadModelConfig(request.assets_from);
  const fs::path root = source.root();
  for (const fs::path& place : {root, root.parent_path()}) {
    RESHARD_ASSIGN(const PathKind kind, KindAt(place / "config.json"));
    if (kind != PathKind::kNothing) return ReadModelConfig(place);
  }
  return ModelConfig();
}

// The name that rules know: of a rank's tensor without the rank.
std::string KeyOf(const Source& source, const std::string& name) {
  if (source.kind() != "megatron") return name;
  const auto parsed = megatron::ParseTensorName(name);
  return parsed ? std::string(parsed->key) : name;
}

std::optional<BoundRecipe::Match> Find(const BoundRecipe& recipe, const std::string& name,
                                       bool hub) {
  const std::string own = recipe.Canonical(name, hub);
  return hub ? recipe.FindHub(own) : recipe.FindHere(own);
}

// The side whose names more of the tensors have.
bool HasHubNames(const Source& source, const BoundRecipe& recipe) {
  if (source.kind() == "megatron") return false;
  size_t hub = 0, here = 0;
  for (const Tensor& tensor : source.catalog().tensors()) {
    hub += Find(recipe, tensor.name, true).has_value();
    here += Find(recipe, tensor.name, false).has_value();
  }
  return hub == here ? source.kind() == "hf" : hub > here;
}

class Fitting {
 public:
  Fitting(const Source& source, const BoundRecipe& recipe, RecipeFit* fit)
      : source_(source), recipe_(recipe), fit_(*fit) {}

  void Run() {
    std::set<std::string> seen;
    for (const Tensor& tensor : source_.catalog().tensors()) {
      const std::string key = KeyOf(source_, tensor.name);
      const auto match = Find(recipe_, key, fit_.hub);
      if (!match) {
        if (seen.insert(key).second) fit_.no_rule.push_back({key, NearestRule(key)});
        continue;
      }
      used_.insert(match->rule);
      CheckShape(tensor, *match);
    }
    for (const Rule* rule : recipe_.rules())
      if (!used_.contains(rule) && rule->kind == Rule::Kind::kMove)
        fit_.unused.push_back((fit_.hub ? rule->hub : rule->here)[0].text());
    for (size_t scope = 0; scope < recipe_.recipe().scopes().size(); ++scope)
      for (const auto& [name, expression] : recipe_.recipe().scopes()[scope].sizes)
        if (!recipe_.scope_sizes(scope).contains(name))
          fit_.unknown.push_back(name + " = " + expression.text());
  }

 private:
  // Names that differ in their numbers alone, as layers' do, have one answer.
  const std::string& NearestRule(const std::string& name) {
    std::string form = name;
    std::ranges::replace_if(form, [](char c) { return c >= '0' && c <= '9'; }, '0');
    const auto [at, fresh] = nearest_.try_emplace(std::move(form));
    if (fresh) at->second = recipe_.Nearest(name, fit_.hub);
    return at->second;
  }

  void CheckShape(const Tensor& tensor, const BoundRecipe::Match& match) {
    const Rule& rule = *match.rule;
    if (rule.kind != Rule::Kind::kMove && rule.kind != Rule::Kind::kCopy) return;
    // Any form will do here; which it is, the conversion has to tell.
    if (fit_.hub && !rule.forms.empty()) {
      const auto fits = [&](const Form& form) {
        return rule.FusionFor(tensor.shape, recipe_.sizes(rule), form.name).has_value();
      };
      if (std::ranges::none_of(rule.forms, fits)) {
        const auto none = rule.FusionFor(tensor.shape, recipe_.sizes(rule), {});
        fit_.misfits.push_back({tensor.name, none.error().found, none.error().expected});
      }
      return;
    }
    const Axes& axes = fit_.hub ? rule.hub_axes(match.member) : rule.here_axes(match.member);
    Sizes sizes = recipe_.sizes(rule);
    // A rank has a part of these, and padding is allowed for.
    if (!fit_.hub) {
      sizes.erase(rule.pad);
      if (source_.kind() == "megatron") {
        sizes.erase(rule.tp);
        sizes.erase(rule.ep);
      }
    }
    if (const auto solved = axes.Solve(tensor.shape, &sizes); !solved)
      fit_.misfits.push_back({tensor.name, solved.error().found, solved.error().expected});
  }

  const Source& source_;
  const BoundRecipe& recipe_;
  RecipeFit& fit_;
  std::set<const Rule*> used_;
  std::map<std::string, std::string> nearest_;
};

// All that a conversion proves before it writes.
Result<> Prove(const RecipeFitRequest& request, const Source& source, const Recipe& recipe,
               bool hub, const ModelConfig& config) {
  Flavors flavors;
  (hub ? flavors.to : flavors.from) = ChosenRecipe{recipe, "as asked"};
  const ConvertRequest convert{.from_layout = request.from_layout,
                               .to = hub ? Kind::kDcp : Kind::kHf,
                               .hub_form = request.hub_form};
  RESHARD_ASSIGN(const TargetTensors target,
                 MapTensors(convert, source, flavors, config, {}, {}, {}, {}));
  return CheckMapping(target.mapping, source.catalog());
}

}  // namespace

Result<RecipeFit> FitRecipe(const RecipeFitRequest& request) {
  RESHARD_ASSIGN(const Recipe recipe, LoadRecipe(request.recipe));
  RESHARD_ASSIGN(const auto source, OpenSource(request.checkpoint, request.from));
  RESHARD_ASSIGN(const ModelConfig config, ConfigOf(request, *source));
  RecipeFit fit{.recipe = recipe.name(), .tensors = source->catalog().tensors().size()};
  const auto misfit = [&](const Error& error) {
    fit.misfits.push_back({error.tensor, error.found, error.expected});
  };
  // Conditions for one stage and for several may name other tensors: a source with ranks has the
  // more of them.
  const int64_t stages = source->kind() == "megatron" ? 2 : 1;
  const auto bound =
      BoundRecipe::Bind(recipe, config, {{"tp", 1}, {"pp", stages}, {"vpp", 1}, {"ep", 1}});
  if (!bound) {
    misfit(bound.error());
    return fit;
  }
  fit.hub = HasHubNames(*source, *bound);
  Fitting(*source, *bound, &fit).Run();
  if (!fit.fits()) return fit;
  if (const auto proved = Prove(request, *source, recipe, fit.hub, config); !proved)
    misfit(proved.error());
  return fit;
}

}  // namespace reshard
