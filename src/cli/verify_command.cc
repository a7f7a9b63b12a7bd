#include <memory>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/request_options.h"
#include "reshard/text.h"

namespace reshard::cli {

std::function<Result<>()> DeclareVerify(CLI::App& app) {
  struct Options {
    std::string directory;
    SayingOptions saying;
  };
  auto options = std::make_shared<Options>();
  app.add_option("DST", options->directory, "what reshard convert has written")->required();
  options->saying.Declare(app);
  app.footer("Exit code 1 where a file differs from the manifest.\nExample: reshard verify out");
  return [options]() -> Result<> {
    Result<VerifyReport> report;
    {
      ConsoleReporter reporter(options->saying.verbosity(), options->saying.json);
      report = Verify(options->directory, {}, reporter);
    }
    if (!report) return std::unexpected(std::move(report).error());
    if (options->saying.json) Print(VerifyJson(*report) + "\n");
    if (!report->faults.empty()) {
      Error error{.kind = ErrorKind::kAnswerNo,
                  .file = options->directory,
                  .found = fmt::format("{} of {} files differ from the manifest",
                                       report->faults.size(), report->files),
                  .help = "convert again, or restore the files"};
      for (const VerifyFault& fault : report->faults)
        Say(fmt::format("{}: {}\n", Printable(fault.file), fault.what));
      return std::unexpected(std::move(error));
    }
    if (!options->saying.json && !options->saying.quiet)
      Print(fmt::format("ok: {} files, {}\n", report->files, FormatByteSize(report->bytes)));
    return {};
  };
}

}  // namespace reshard::cli
