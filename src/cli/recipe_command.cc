#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/output.h"
#include "reshard/convert.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

struct Options {
  CLI::App* list = nullptr;
  CLI::App* show = nullptr;
  CLI::App* check = nullptr;
  std::string name;
  RecipeFitRequest fit;
  bool json = false;
};

std::string FitText(const RecipeFit& fit) {
  std::string text = fmt::format("{:<8} {} tensors with {} names\n", "tensors", fit.tensors,
                                 fit.hub ? "the hub's" : "the recipe's own");
  const auto line = [&](std::string_view label, const std::string& what) {
    text += fmt::format("{:<8} {}\n", label, Printable(what));
  };
  for (const RecipeFit::NoRule& tensor : fit.no_rule)
    line("no rule", fmt::format("{}; the nearest is '{}'", tensor.tensor, tensor.nearest));
  for (const RecipeFit::Misfit& misfit : fit.misfits)
    line("misfit", fmt::format("{}{}{}; expected {}", misfit.tensor,
                               misfit.tensor.empty() ? "" : ": ", misfit.found, misfit.expected));
  for (const std::string& rule : fit.unused) line("unused", "no tensor is like " + rule);
  for (const std::string& size : fit.unknown) line("unknown", size + ": not in config.json");
  return text;
}

Result<> CheckFit(const Options& options) {
  RecipeFitRequest request = options.fit;
  request.recipe = options.name;
  ConvertRequest from;
  if (auto kind = ParseSourceKind(request.from, &from); !kind) return kind;
  request.from = from.from;
  request.from_layout = from.from_layout;
  const auto fit = FitRecipe(request);
  if (!fit) return std::unexpected(fit.error());
  Print(options.json ? RecipeFitJson(*fit) + "\n" : FitText(*fit));
  if (fit->fits()) {
    if (!options.json) Print(fmt::format("ok: {}\n", Printable(options.name)));
    return {};
  }
  return std::unexpected(Error{.kind = ErrorKind::kAnswerNo,
                               .file = options.name,
                               .found = fmt::format("tensors without a rule: {}; what does not fit: {}",
                                                    fit->no_rule.size(), fit->misfits.size()),
                               .help = "see docs/recipes.md for the language of recipes"});
}

Result<> Run(const Options& options) {
  if (options.list->parsed()) {
    Print(fmt::format("{:<12} {}\n", "auto", "picks one of these by the names that are there"));
    for (const RecipeInfo& recipe : ListRecipes())
      Print(fmt::format("{:<12} {}\n", recipe.name, recipe.description));
    return {};
  }
  if (options.check->parsed() && !options.fit.checkpoint.empty()) return CheckFit(options);
  const auto text = RecipeText(options.name);
  if (!text) return std::unexpected(text.error());
  Print(options.show->parsed() ? *text : fmt::format("ok: {}\n", Printable(options.name)));
  return {};
}

}  // namespace

std::function<Result<>()> DeclareRecipe(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.require_subcommand(1);
  options->list = app.add_subcommand("list", "the built-in recipes");
  options->show = app.add_subcommand("show", "print a recipe: reshard recipe show veomni");
  options->show->add_option("NAME", options->name, "its name, or a file")->required();
  CLI::App* check =
      app.add_subcommand("check", "check a recipe: reshard recipe check my.toml ckpt");
  check->add_option("FILE", options->name, "a TOML file, or a name")->required();
  CLI::Option* checkpoint =
      check->add_option("CKPT", options->fit.checkpoint, "a checkpoint that it should fit");
  check->add_option("--from", options->fit.from, "its kind, as in convert [auto]")
      ->needs(checkpoint);
  check->add_option("--hub-form", options->fit.hub_form, "as in convert")->needs(checkpoint);
  check->add_option("--assets-from", options->fit.assets_from,
                    "where config.json lies [with or beside CKPT]")
      ->needs(checkpoint);
  check->add_flag("--json", options->json, "machine-readable, on stdout: docs/json.md")
      ->needs(checkpoint);
  check->footer("Exit code 1 where something does not fit.");
  options->check = check;
  app.footer("docs/recipes.md teaches how to write a recipe.");
  return [options] { return Run(*options); };
}

}  // namespace reshard::cli
