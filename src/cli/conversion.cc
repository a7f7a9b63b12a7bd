#include "cli/conversion.h"

#include <algorithm>

#include <fmt/format.h>

#include "cli/files.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

constexpr size_t kMaxRows = 20;

std::string Plural(uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

// What is said of rows of padding, behind what else is left out; nothing if there are none.
std::string Padding(const PlanSummary& summary, std::string_view before) {
  if (summary.dropped_parts == 0) return {};
  return fmt::format("{}rows of padding of {}", before, Plural(summary.dropped_parts, "tensor"));
}

// The first of many names, and how many more there are.
std::string NamesText(const std::vector<std::string>& names, bool all) {
  constexpr size_t kShown = 5;
  std::string text;
  const size_t shown = all || names.size() <= kShown + 1 ? names.size() : kShown;
  for (size_t i = 0; i < shown; ++i) text += (i > 0 ? ", " : "") + Printable(names[i]);
  if (shown < names.size()) text += fmt::format(" and {} more", names.size() - shown);
  return text;
}

std::string PlanText(const ConvertRequest& request, const PlanDescription& plan, bool verbose) {
  const PlanSummary& summary = plan.summary;
  std::string text;
  const auto line = [&](std::string_view label, std::string_view value) {
    text += fmt::format("{:<10} {}\n", label, value);
  };
  line("plan", summary.plan_id);
  line("source", fmt::format("{} ({})", Printable(request.source), summary.source_kind));
  line("target", fmt::format("{} ({})", Printable(request.destination), TargetText(request)));
  line("recipe", fmt::format("{} ({})", summary.recipe, Printable(summary.recipe_why)));
  line("assets", summary.assets_from.empty() ? "none" : Printable(summary.assets_from));
  line("tensors", fmt::format("{}: {} cast, {} put together from several chunks", summary.tensors,
                              summary.casts, summary.assembled));
  if (summary.objects > 0)
    line("objects", fmt::format("{}, as they are stored", summary.objects));
  for (const auto& [why, count] : summary.kept_types)
    line("types", fmt::format("{} kept: {}", Plural(count, "tensor"), why));
  line("reads", FormatByteSize(summary.bytes_read));
  line("writes", fmt::format("{} in {}", FormatByteSize(summary.bytes_written),
                             Plural(plan.files.size(), "file")));
  line("dropped", fmt::format("{}, {}{}", Plural(summary.dropped_tensors, "tensor"),
                              Plural(summary.dropped_objects, "object"), Padding(summary, ", ")));
  text += "\n";
  for (size_t i = 0; i < std::min(plan.files.size(), kMaxRows); ++i)
    text += fmt::format("  {:>10}  {}\n", FormatByteSize(plan.files[i].byte_size),
                        Printable(plan.files[i].path));
  if (plan.files.size() > kMaxRows)
    text += fmt::format("  ... and {} more: --json lists them all\n", plan.files.size() - kMaxRows);
  if (verbose)
    for (const auto* list : {&plan.dropped, &plan.dropped_parts})
      for (const Dropped& drop : *list)
        text += fmt::format("dropped: {} ({})\n", Printable(drop.name), Printable(drop.why));
  if (!plan.left_behind.empty())
    text += fmt::format("left: {}\n", NamesText(plan.left_behind, verbose));
  for (const std::string& missing : plan.missing_assets)
    text += fmt::format("missing: {}\n", Printable(missing));
  return text;
}

}  // namespace

Result<> ShowPlan(const ConvertRequest& request, const SayingOptions& saying,
                  const std::string& file) {
  SayingOptions without_events = saying;  // Standard output is the plan's.
  without_events.json = false;
  ConsoleReporter reporter(without_events.verbosity(), false);
  const auto conversion = Conversion::Prepare(request, reporter);
  if (!conversion) return std::unexpected(conversion.error());
  const bool whole = saying.json || !file.empty();
  const PlanDescription plan = conversion->Describe(whole ? Detail::kTensors : Detail::kFiles);
  if (!file.empty()) {
    if (auto written = WriteFile(file, PlanJson(request, plan)); !written) return written;
    if (!saying.quiet)
      Say(fmt::format("run it with: reshard convert --plan {}\n", Printable(file)));
  }
  if (saying.json) {
    Print(PlanJson(request, plan));
  } else if (!saying.quiet || file.empty()) {
    Print(PlanText(request, plan, saying.verbose));
  }
  return {};
}

Result<> ConvertAndReport(const ConvertRequest& request, const std::string& plan_id,
                          const RunOptions& options, const SayingOptions& saying) {
  ConvertSummary summary;
  {
    ConsoleReporter reporter(saying.verbosity(), saying.json);
    auto conversion = Conversion::Prepare(request, reporter);
    if (!conversion) return std::unexpected(std::move(conversion).error());
    const PlanSummary& plan = conversion->summary();
    if (!plan_id.empty() && plan.plan_id != plan_id)
      return std::unexpected(
          Error{.kind = ErrorKind::kMapping,
                .file = request.source,
                .found = fmt::format("the plan has become {}", plan.plan_id),
                .expected = fmt::format("{}, as stored", plan_id),
                .help = "source, assets or recipe have changed since: make the plan again"});
    if (!saying.quiet)
      Say(fmt::format("recipe {}: {}\n", Printable(plan.recipe), Printable(plan.recipe_why)));
    StopGently();
    auto done = conversion->Run(options, reporter);
    if (!done) return std::unexpected(std::move(done).error());
    summary = std::move(*done);
  }
  if (saying.json) Print(SummaryJson(summary) + "\n");
  if (saying.quiet) return {};
  const PlanSummary& plan = summary.plan;
  if (summary.was_complete) {
    Say(fmt::format("'{}' was complete already: an earlier run had written it, and nothing but its "
                    "last step was left to do\n",
                    Printable(request.destination)));
    return {};
  }
  Say(fmt::format("wrote {} ({} of weights and assets in {}) to {} in {:.2f} s\n",
                  Plural(plan.tensors, "tensor"), FormatByteSize(summary.bytes_written),
                  Plural(summary.files, "file"), Printable(request.destination), summary.seconds));
  if (!summary.left_behind.empty())
    Say(fmt::format("left in {}: {}\n", Printable(plan.assets_from),
                    NamesText(summary.left_behind, saying.verbose)));
  if (!plan.assets_from.empty() && (!summary.missing_assets.empty() || saying.verbose))
    Say(fmt::format("assets are from {}\n", Printable(plan.assets_from)));
  if (summary.bytes_resumed > 0)
    Say(fmt::format("kept {} that an earlier run had finished\n",
                    FormatByteSize(summary.bytes_resumed)));
  if (plan.dropped_tensors + plan.dropped_objects + plan.dropped_parts > 0)
    Say(fmt::format("left out {} and {}{} that the target does not hold\n",
                    Plural(plan.dropped_tensors, "tensor"),
                    Plural(plan.dropped_objects, "object"), Padding(plan, ", and ")));
  for (const auto& [why, count] : plan.kept_types)
    Say(fmt::format("{} kept {} type: {}\n", Plural(count, "tensor"), count == 1 ? "its" : "their",
                    why));
  for (const auto& [tensor, count] : summary.overflows)
    Say(fmt::format("warning: {} of {} became infinite in the narrower type\n",
                    Plural(count, "finite value"), Printable(tensor)));
  for (const std::string& missing : summary.missing_assets)
    Say(fmt::format("a loader will miss: {}; give it with {}\n", Printable(missing),
                    saying.assets_option));
  return {};
}

}  // namespace reshard::cli
