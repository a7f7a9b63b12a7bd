#include <memory>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/conversion.h"
#include "cli/files.h"

namespace reshard::cli {
namespace {

// With a line of some 300 bytes for each tensor, this is a plan of half a million.
constexpr uint64_t kMaxPlanBytes = uint64_t{160} << 20;

struct Options {
  RequestOptions request;
  RunningOptions running;
  SayingOptions saying;
  std::string plan;
  bool dry_run = false;
  CLI::App* app = nullptr;
};

// With --plan, the request comes from the file; only where to read and write may be said anew.
Result<ConvertRequest> RequestOf(const Options& options, std::string* plan_id) {
  if (options.plan.empty()) return options.request.Parse();
  const auto text = ReadFile(options.plan, kMaxPlanBytes);
  if (!text) return std::unexpected(text.error());
  auto stored = ParsePlanJson(*text, options.plan);
  if (!stored) return std::unexpected(std::move(stored).error());
  for (const char* name : {"--to", "--from", "--recipe", "--packing", "--dtype", "--dtype-for",
                           "--shard-size", "--weights", "--assets-from", "--ignore"})
    if (options.app->get_option(name)->count() > 0)
      return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                   .found = fmt::format("{} and --plan exclude each other", name),
                                   .help = "the plan says it all: make another plan"});
  *plan_id = stored->plan_id;
  stored->request.read_from.push_back(options.plan);
  if (!options.request.source.empty()) stored->request.source = options.request.source;
  if (!options.request.destination.empty())
    stored->request.destination = options.request.destination;
  return stored->request;
}

Result<> Run(const Options& options) {
  std::string plan_id;
  auto request = RequestOf(options, &plan_id);
  if (!request) return std::unexpected(std::move(request).error());
  if (options.dry_run) return ShowPlan(*request, options.saying, {});
  const auto run = options.running.Parse();
  if (!run) return std::unexpected(run.error());
  return ConvertAndReport(*request, plan_id, *run, options.saying);
}

}  // namespace

std::function<Result<>()> DeclareConvert(CLI::App& app) {
  auto options = std::make_shared<Options>();
  options->app = &app;
  options->request.Declare(app);
  for (const char* name : {"SRC", "DST"})
    app.get_option(name)->required(false);
  app.add_option("--plan", options->plan, "do what a stored plan says: --plan plan.json");
  app.add_flag("--dry-run", options->dry_run, "show the plan, write nothing");
  options->running.Declare(app);
  options->saying.Declare(app);
  app.footer("Example: reshard convert ckpt/step-1000 out --to hf --dtype bfloat16 "
             "--assets-from base");
  return [options]() -> Result<> {
    if (options->plan.empty() &&
        (options->request.source.empty() || options->request.destination.empty()))
      return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                   .found = "SRC and DST are required",
                                   .expected = "reshard convert SRC DST --to hf",
                                   .help = "reshard convert --help"});
    return Run(*options);
  };
}

}  // namespace reshard::cli
