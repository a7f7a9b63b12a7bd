#include <memory>

#include "cli/commands.h"
#include "cli/conversion.h"

namespace reshard::cli {

std::function<Result<>()> DeclarePlan(CLI::App& app) {
  struct Options {
    RequestOptions request;
    SayingOptions saying;
    std::string output;
  };
  auto options = std::make_shared<Options>();
  options->request.Declare(app);
  app.add_option("-o,--output", options->output, "store the plan: -o plan.json");
  options->saying.Declare(app);
  app.footer("Example: reshard plan ckpt/step-1000 out --to hf -o plan.json\n"
             "         reshard convert --plan plan.json");
  return [options]() -> Result<> {
    const auto request = options->request.Parse();
    if (!request) return std::unexpected(request.error());
    return ShowPlan(*request, options->saying, options->output);
  };
}

}  // namespace reshard::cli
