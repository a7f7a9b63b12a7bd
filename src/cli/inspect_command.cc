#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/output.h"
#include "cli/totals.h"
#include "reshard/convert.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

constexpr size_t kMaxRows = 20;

struct Options {
  std::string path;
  std::string from = "auto";
  std::string grep;
  bool tensors = false;
  bool json = false;
};

std::string Count(uint64_t elements) {
  const double value = static_cast<double>(elements);
  if (value >= 1e9) return fmt::format("{:.2f} B", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f} M", value / 1e6);
  return fmt::format("{}", elements);
}

std::string Text(const Source& source, const std::vector<const Tensor*>& tensors,
                 const Options& options) {
  const Totals totals = TotalsOf(tensors);
  const Catalog& catalog = source.catalog();
  std::string text;
  const auto line = [&](std::string_view label, std::string_view value) {
    text += fmt::format("{:<11} {}\n", label, value);
  };
  line("checkpoint", Printable(options.path));
  line("kind", fmt::format("{} ({})", source.kind(), Printable(source.evidence())));
  line("tensors", fmt::format("{} with {} elements, {}", totals.tensors, Count(totals.elements),
                              FormatByteSize(totals.bytes)));
  for (const auto& [dtype, of] : totals.by_dtype)
    line("", fmt::format("{:<15} {:>6}  {}", DTypeName(dtype), of.tensors,
                         FormatByteSize(of.bytes)));
  line("chunks", fmt::format("{}", totals.chunks));
  line("files", fmt::format("{}", catalog.files().size()));
  line("objects", fmt::format("{}", catalog.objects().size()));
  if (!catalog.unreadable().empty())
    line("not read", fmt::format("{} tensors, in forms that cannot be converted",
                                 catalog.unreadable().size()));
  for (const std::string& note : source.notes()) line("note", Printable(note));

  const size_t limit = options.tensors ? tensors.size() : std::min(tensors.size(), kMaxRows);
  text += "\n";
  for (size_t i = 0; i < limit; ++i)
    text += fmt::format("{:<15} {:<18} {}\n", DTypeName(tensors[i]->dtype),
                        fmt::format("[{}]", fmt::join(tensors[i]->shape, ", ")),
                        Printable(tensors[i]->name));
  if (limit < tensors.size())
    text += fmt::format("... and {} more: --tensors shows them all\n", tensors.size() - limit);
  const auto& unreadable = catalog.unreadable();
  const size_t named = options.tensors ? unreadable.size() : std::min(unreadable.size(), kMaxRows);
  for (size_t i = 0; i < named; ++i)
    text += fmt::format("{:<15} {}: {}\n", "cannot be read", Printable(unreadable[i].name),
                        Printable(unreadable[i].what));
  if (named < unreadable.size())
    text += fmt::format("... and {} more that cannot be read\n", unreadable.size() - named);
  const size_t objects = options.tensors ? catalog.objects().size()
                                         : std::min(catalog.objects().size(), kMaxRows);
  for (size_t i = 0; i < objects; ++i) {
    const Object& object = catalog.objects()[i];
    text += fmt::format("{:<15} {} = {}\n", "object", Printable(object.name),
                        Printable(object.summary));
  }
  if (objects < catalog.objects().size())
    text += fmt::format("... and {} more objects\n", catalog.objects().size() - objects);
  return text;
}

Result<> Run(const Options& options) {
  const auto source = OpenSource(options.path, options.from);
  if (!source) return std::unexpected(source.error());
  auto tensors = SelectTensors((*source)->catalog(), options.grep);
  if (!tensors) return std::unexpected(std::move(tensors).error());
  Print(options.json ? InspectJson(**source, *tensors, options.tensors) + "\n"
                     : Text(**source, *tensors, options));
  return {};
}

}  // namespace

std::function<Result<>()> DeclareInspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("PATH", options->path, "a DCP, Hugging Face or Megatron directory, or a .pt file")
      ->required();
  app.add_option("--from", options->from, "kind: auto, dcp, hf, megatron or pt [auto]")
      ->check(CLI::IsMember({"auto", "dcp", "hf", "megatron", "pt"}));
  app.add_flag("--tensors", options->tensors, "list every tensor and object");
  app.add_option("--grep", options->grep, "only tensors like this: --grep 'layers\\.0\\.'");
  app.add_flag("--json", options->json, "machine-readable, on stdout: docs/json.md");
  app.footer("Reads metadata only. Example: reshard inspect ckpt/step-1000 --grep norm");
  return [options] { return Run(*options); };
}

}  // namespace reshard::cli
