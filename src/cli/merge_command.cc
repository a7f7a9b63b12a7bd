#include <memory>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/conversion.h"
#include "reshard/text.h"

namespace reshard::cli {

// The flags and defaults of VeOmni's scripts/merge_dcp_to_hf.py and of its guide.
std::function<Result<>()> DeclareMerge(CLI::App& app) {
  struct Options {
    std::string load_dir;
    std::string save_dir;
    std::string assets_dir;
    std::string shard_size = "2000000000";
    RunningOptions running;
    SayingOptions saying;
  };
  auto options = std::make_shared<Options>();
  app.add_option("--load-dir", options->load_dir, "the DCP checkpoint: --load-dir ckpt")
      ->required();
  app.add_option("--save-dir", options->save_dir, "the directory to write [LOAD_DIR/hf_ckpt]");
  app.add_option("--model-assets-dir,--model-configs", options->assets_dir,
                 "config and tokenizer: --model-assets-dir qwen3-8b");
  app.add_option("--shard-size", options->shard_size, "most tensor bytes in a file [2000000000]");
  options->running.Declare(app);
  options->saying.Declare(app);
  app.footer("Weights become bfloat16. The same with other choices:\n"
             "  reshard convert LOAD_DIR SAVE_DIR --to hf --from dcp --recipe veomni\n"
             "          --dtype bfloat16 --dtype-for .=bfloat16 --packing lexicographic\n"
             "          --shard-size 2000000000");
  return [options]() -> Result<> {
    ConvertRequest request{.source = options->load_dir,
                           .destination = options->save_dir.empty()
                                              ? options->load_dir + "/hf_ckpt"
                                              : options->save_dir,
                           .from = "dcp",
                           .recipe = "veomni",
                           .packing = Packing::kLexicographic,
                           .dtype = DType::kBFloat16,
                           // The script casts all floating tensors, those too that --dtype keeps.
                           .dtype_for = {{".", DType::kBFloat16}},
                           .assets_from = options->assets_dir};
    const auto bytes = ParseByteSize(options->shard_size);
    if (!bytes) return std::unexpected(bytes.error());
    request.shard_size = *bytes;
    const auto run = options->running.Parse();
    if (!run) return std::unexpected(run.error());
    SayingOptions saying = options->saying;
    saying.assets_option = "--model-assets-dir";
    // The script warns once for each key.
    if (!saying.quiet) saying.verbose = true;
    return ConvertAndReport(request, {}, *run, saying);
  };
}

}  // namespace reshard::cli
