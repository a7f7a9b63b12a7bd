#include <memory>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "reshard/convert.h"
#include "reshard/text.h"

namespace reshard::cli {

std::function<Result<>()> DeclareRecipe(CLI::App& app) {
  struct Options {
    CLI::App* list = nullptr;
    CLI::App* show = nullptr;
    CLI::App* check = nullptr;
    std::string name;
  };
  auto options = std::make_shared<Options>();
  app.require_subcommand(1);
  options->list = app.add_subcommand("list", "the built-in recipes");
  options->show = app.add_subcommand("show", "print a recipe: reshard recipe show veomni");
  options->show->add_option("NAME", options->name, "its name, or a file")->required();
  options->check = app.add_subcommand("check", "check a recipe: reshard recipe check my.toml");
  options->check->add_option("FILE", options->name, "a TOML file, or a name")->required();
  app.footer("docs/recipes.md teaches how to write a recipe.");
  return [options]() -> Result<> {
    if (options->list->parsed()) {
      Print(fmt::format("{:<12} {}\n", "auto", "picks one of these by the names that are there"));
      for (const RecipeInfo& recipe : ListRecipes())
        Print(fmt::format("{:<12} {}\n", recipe.name, recipe.description));
      return {};
    }
    const auto text = RecipeText(options->name);
    if (!text) return std::unexpected(text.error());
    Print(options->show->parsed() ? *text : fmt::format("ok: {}\n", Printable(options->name)));
    return {};
  };
}

}  // namespace reshard::cli
