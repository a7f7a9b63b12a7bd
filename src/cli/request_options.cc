#include "cli/request_options.h"

#include <fmt/format.h>

#include "cli/interrupt.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

Error Usage(std::string found, std::string expected) {
  return Error{.kind = ErrorKind::kUsage,
               .found = std::move(found),
               .expected = std::move(expected)};
}

Result<DType> ParseTarget(const std::string& option, const std::string& name) {
  const auto dtype = ParseDType(name);
  if (dtype && IsCastable(*dtype) && *dtype != DType::kFloat64) return *dtype;
  return std::unexpected(Usage(fmt::format("{} '{}' is no type to cast to", option, name),
                               "bfloat16, float16 or float32"));
}

}  // namespace

void RequestOptions::Declare(CLI::App& app) {
  const std::string what = "Source and target";
  app.add_option("SRC", source, "a DCP, Hugging Face or Megatron directory, or a .pt file")->required();
  app.add_option("DST", destination, "the directory to write: out/my-model")->required();
  app.add_option("--to", to, "target kind: hf [hf]")->check(CLI::IsMember({"hf"}))->group(what);
  app.add_option("--from", from, "source kind: auto, dcp, hf, megatron or pt [auto]")
      ->check(CLI::IsMember({"auto", "dcp", "hf", "megatron", "pt"}))
      ->group(what);
  app.add_option("--recipe", recipe, "how names map: auto, veomni, my.toml [auto]")->group(what);
  app.add_option("--packing", packing, "natural (layer 2 before 10) or lexicographic [natural]")
      ->check(CLI::IsMember({"natural", "lexicographic"}))
      ->group(what);
  app.add_option("--dtype", dtype, "keep, bfloat16, float16, float32: --dtype bfloat16 [keep]")
      ->group(what);
  app.add_option("--dtype-for", dtype_for, "for some names: --dtype-for 'norm=float32'")
      ->allow_extra_args(false)
      ->group(what);
  app.add_option("--shard-size", shard_size, "most tensor bytes in a file: 2GiB [5GB]")
      ->group(what);
  app.add_option("--weights", weights, "safetensors or bin [safetensors]")
      ->check(CLI::IsMember({"safetensors", "bin"}))
      ->group(what);
  app.add_option("--assets-from", assets_from, "config, tokenizer: --assets-from base-model")
      ->group(what);
  app.add_option("--ignore", ignore, "drop source names: --ignore '\\.inv_freq$'")
      ->allow_extra_args(false)
      ->group(what);
}

Result<ConvertRequest> RequestOptions::Parse() const {
  ConvertRequest request{.source = source,
                         .destination = destination,
                         .from = from,
                         .recipe = recipe,
                         .assets_from = assets_from,
                         .ignore = ignore};
  if (packing == "lexicographic") request.packing = Packing::kLexicographic;
  if (weights == "bin") request.weights = Weights::kBin;
  if (dtype != "keep") {
    const auto target = ParseTarget("--dtype", dtype);
    if (!target) return std::unexpected(target.error());
    request.dtype = *target;
  }
  for (const std::string& rule : dtype_for) {
    const size_t equals = rule.rfind('=');
    if (equals == std::string::npos)
      return std::unexpected(
          Usage(fmt::format("--dtype-for '{}' has no '='", rule), "REGEX=DTYPE"));
    const auto target = ParseTarget("--dtype-for", rule.substr(equals + 1));
    if (!target) return std::unexpected(target.error());
    request.dtype_for.emplace_back(rule.substr(0, equals), *target);
  }
  const auto bytes = ParseByteSize(shard_size);
  if (!bytes) return std::unexpected(bytes.error());
  request.shard_size = *bytes;
  return request;
}

void RunningOptions::Declare(CLI::App& app) {
  const std::string how = "Running";
  app.add_option("--jobs", jobs, "threads: --jobs 4 [one for each processor]")
      ->check(CLI::Range(1u, 4096u))
      ->group(how);
  app.add_option("--memory", memory, "most bytes of buffers: --memory 128MiB [48MiB]")->group(how);
  app.add_flag("--force", force, "replace the destination if it exists")->group(how);
  app.add_flag("--no-resume", no_resume, "start afresh, whatever an earlier run left")
      ->group(how);
}

Result<RunOptions> RunningOptions::Parse() const {
  RunOptions options{
      .jobs = jobs, .force = force, .resume = !no_resume, .cancelled = &Interrupted()};
  if (!memory.empty()) {
    const auto bytes = ParseByteSize(memory);
    if (!bytes) return std::unexpected(bytes.error());
    options.memory = *bytes;
  }
  return options;
}

void SayingOptions::Declare(CLI::App& app) {
  const std::string group = "Output";
  app.add_flag("--json", json, "machine-readable, on stdout: docs/json.md")->group(group);
  auto* quiet_flag = app.add_flag("-q,--quiet", quiet, "only errors")->group(group);
  app.add_flag("-v,--verbose", verbose, "everything")->excludes(quiet_flag)->group(group);
}

}  // namespace reshard::cli
