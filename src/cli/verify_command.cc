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
  app.footer("Exit code 1 where a file differs from the manifest, or weights are not in it.\nExample: reshard verify out");
  return [options]() -> Result<> {
    Result<VerifyReport> report;
    {
      ConsoleReporter reporter(options->saying.verbosity(), options->saying.json);
      report = Verify(options->directory, {}, reporter);
    }
    if (!report) return std::unexpected(std::move(report).error());
    if (options->saying.json) Print(VerifyJson(*report) + "\n");
    for (const auto* faults : {&report->faults, &report->unlisted})
      for (const VerifyFault& fault : *faults)
        Say(fmt::format("{}: {}\n", Printable(fault.file), fault.what));
    if (!report->faults.empty())
      return std::unexpected(Error{.kind = ErrorKind::kAnswerNo,
                                   .file = options->directory,
                                   .found = fmt::format("{} of {} files differ from the manifest",
                                                        report->faults.size(), report->files),
                                   .help = "convert again, or restore the files"});
    if (!report->ok())
      return std::unexpected(
          Error{.kind = ErrorKind::kAnswerNo,
                .file = options->directory,
                .found = fmt::format("{} {} of weights {} not in the manifest",
                                     report->unlisted.size(),
                                     report->unlisted.size() == 1 ? "file" : "files",
                                     report->unlisted.size() == 1 ? "is" : "are"),
                .expected = "none, or a loader may take other weights than were written",
                .help = "move them to another directory"});
    if (!options->saying.json && !options->saying.quiet)
      Print(fmt::format("ok: {} files, {}\n", report->files, FormatByteSize(report->bytes)));
    return {};
  };
}

}  // namespace reshard::cli
