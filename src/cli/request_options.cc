#include "cli/request_options.h"

#include <fmt/format.h>

#include "cli/interrupt.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

// What was given to an option, as its name in front of what was found.
template <typename T>
Result<T> Of(std::string_view option, Result<T> parsed) {
  if (!parsed) parsed.error().found = fmt::format("{} {}", option, parsed.error().found);
  return parsed;
}

}  // namespace

void RequestOptions::Declare(CLI::App& app) {
  const std::string what = "Source and target";
  app.add_option("SRC", source, "a DCP, Hugging Face or Megatron directory, or a .pt file")->required();
  app.add_option("DST", destination, "the directory to write: out/my-model")->required();
  app.add_option("--to", to, "target kind: hf, megatron, dcp or dcp:ranks=N,in-root [hf]")->group(what);
  app.add_option("--from", from, "auto, dcp, hf, megatron, pt; megatron:tp=2,vit-tp=1 [auto]")
      ->group(what);
  app.add_option("--recipe", recipe, "how names map: auto, veomni, my.toml [auto]")->group(what);
  app.add_option("--from-recipe", from_recipe, "the source's, where neither side is Hugging Face's")
      ->group(what);
  app.add_option("--like", like, "take over names and files of this Hugging Face directory")
      ->group(what);
  app.add_option("--hub-form", hub_form, "of tensors whose shapes leave it open: published")
      ->group(what);
  app.add_option("--llm-from", llm_from, "take the language model from this Hugging Face directory")
      ->group(what);
  app.add_option("--only", only, "a part alone: vit, audio, llm, or an expression: lora")
      ->group(what);
  app.add_option("--packing", packing, "natural (layer 2 before 10) or lexicographic [natural]")
      ->check(CLI::IsMember({"natural", "lexicographic"}))
      ->option_text("TEXT")
      ->group(what);
  app.add_option("--dtype", dtype, "keep, bfloat16, float16, float32: --dtype bfloat16 [keep]")
      ->group(what);
  app.add_option("--dtype-for", dtype_for, "for some names: --dtype-for 'norm=float32'")
      ->allow_extra_args(false)
      ->group(what);
  app.add_flag("--dequantize", dequantize, "float8 weights times their scales [as bfloat16]")
      ->group(what);
  app.add_option("--shard-size,--max-shard-size", shard_size,
                 "most tensor bytes in a file: 2GiB [5GB]")
      ->group(what);
  app.add_option("--weights", weights, "safetensors or bin [safetensors]")
      ->check(CLI::IsMember({"safetensors", "bin"}))
      ->option_text("TEXT")
      ->group(what);
  app.add_option("--assets-from", assets_from, "config, tokenizer: --assets-from base-model")
      ->group(what);
  app.add_option("--ignore", ignore, "drop source names: --ignore '\\.inv_freq$'")
      ->allow_extra_args(false)
      ->group(what);

  const std::pair<const char*, const char*> sizes[] = {
      {"tp", "tensor parallel size: --tp 4 [1]"},
      {"pp", "pipeline stages: --pp 4 [1, or as the lists say]"},
      {"vpp", "virtual pipeline chunks of a stage: --vpp 2 [1]"},
      {"ep", "expert parallel size (--etp: tensor parallel, of experts): --ep 8 [1]"},
      {"vit-tp", "that of the vision tower (--audio-tp: of audio): --vit-tp 1 [--tp]"},
      {"llm-pp-layers", "layers of each stage, a list for each chunk: '[[4,4],[4,2]]'"},
      {"vit-pp-layers", "that of the vision tower (--audio-pp-layers: of audio): '[[8,0]]'"}};
  for (const auto& [name, help] : sizes)
    app.add_option(fmt::format("--{}", name), layout[name], help)->group(what);
  // Named in the line of another, so that the help fits a screen.
  for (const char* name : {"etp", "audio-tp", "audio-pp-layers"})
    app.add_option(fmt::format("--{}", name), layout[name])->group("");
  app.add_option("--layout", layout_file, "all of these from a file: --layout tp4pp2.toml")
      ->group(what);
  app.add_option("--from-layout", from_layout, "the source's, where its files do not say: a.toml")
      ->group(what);
  app.add_option("--iteration", iteration, "release, or a number: --iteration 1000 [release]")
      ->group(what);
  app.add_option("--pad-vocab-to", pad_vocab_to,
                 "rows of zeros: 151680, a multiple: x128, the last row's: x128:last-row")
      ->group(what);
}

Result<> RequestOptions::ParseLayout(ConvertRequest* request) const {
  std::vector<Result<>> steps;
  for (const std::string& file : {layout_file, from_layout})
    if (!file.empty()) request->read_from.push_back(file);
  if (!layout_file.empty()) steps.push_back(ReadLayoutFile(layout_file, &request->layout));
  if (!from_layout.empty()) steps.push_back(ReadLayoutFile(from_layout, &request->from_layout));
  for (const auto& [name, value] : layout)
    if (!value.empty())
      steps.push_back(ParseLayoutText(fmt::format("{}={}", name, value), &request->layout));
  for (Result<>& step : steps)
    if (!step) return step;
  const auto number = ParseIteration(iteration);
  if (!number) return std::unexpected(number.error());
  request->iteration = *number;
  const auto padding = ParseVocabPadding(pad_vocab_to);
  if (!padding) return std::unexpected(padding.error());
  request->vocab_padding = *padding;
  return CheckLayoutIsUsed(*request);
}

Result<ConvertRequest> RequestOptions::Parse() const {
  ConvertRequest request{.source = source,
                         .destination = destination,
                         .recipe = recipe,
                         .from_recipe = from_recipe,
                         .like = like,
                         .hub_form = hub_form,
                         .assets_from = assets_from,
                         .llm_from = llm_from,
                         .only = only,
                         .ignore = ignore};
  if (auto kind = ParseTarget(to, &request); !kind) return std::unexpected(kind.error());
  if (auto kind = ParseSourceKind(from, &request); !kind) return std::unexpected(kind.error());
  if (auto dealt = ParseLayout(&request); !dealt) return std::unexpected(dealt.error());
  if (packing == "lexicographic") request.packing = Packing::kLexicographic;
  if (weights == "bin") request.weights = Weights::kBin;
  if (dtype != "keep") {
    const auto target = Of("--dtype", ParseCastType(dtype));
    if (!target) return std::unexpected(target.error());
    request.dtype = *target;
  }
  for (const std::string& rule : dtype_for) {
    auto cast = Of("--dtype-for", ParseCastRule(rule));
    if (!cast) return std::unexpected(cast.error());
    request.dtype_for.push_back(*std::move(cast));
  }
  if (dequantize) request.dequantize = DType::kBFloat16;
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
