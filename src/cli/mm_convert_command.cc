#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "cli/commands.h"
#include "cli/conversion.h"
#include "cli/mm_convert_config.h"
#include "cli/request_options.h"
#include "cli/suggest.h"
#include "reshard/text.h"

namespace reshard::cli {
namespace {

// A converter class of MindSpeed-MM: the models, as a recipe of each flavor where its name alone
// says which, else as what config.json says.
struct Converter {
  const char* name;
  const char* description;
  const char* model;
  MmFields fields = MmFields::kAll;
};

constexpr Converter kConverters[] = {
    {"Qwen2VLConverter", "Qwen2-VL", "qwen2-vl", MmFields::kCanonical},
    {"Qwen2_5_VLConverter", "Qwen2.5-VL", "qwen2.5-vl", MmFields::kCanonical},
    {"Qwen2_5_OmniConverter", "the thinker of Qwen2.5-Omni", "qwen2.5-omni"},
    {"Qwen3VLMegatronConverter", "Qwen3-VL, dense and with experts", ""},
    {"InternVLConverter", "InternVL 2 to 3", "internvl"},
    {"DeepSeekVLConverter", "DeepSeek-VL2", "deepseek-vl2"},
    {"GlmConverter", "GLM-4.1V", "glm-4.1v"},
    {"VideoAlignConverter", "VideoAlign, a reward model on Qwen2-VL", "videoalign",
     MmFields::kVideoAlign},
};

struct Method {
  const char* name;
  const char* alias;
  const char* description;
  MmMethod method;
};

constexpr Method kMethods[] = {
    {"hf_to_mm", "hf-to-mm", "Hugging Face weights to MindSpeed-MM's", MmMethod::kHfToMm},
    {"mm_to_hf", "mm-to-hf", "MindSpeed-MM's weights to Hugging Face's", MmMethod::kMmToHf},
    {"resplit", "re-split", "MindSpeed-MM's weights for other parallel sizes", MmMethod::kResplit},
    {"hf_to_mm_dcp", "hf-to-mm-dcp", "Hugging Face weights to MindSpeed-MM's as DCP",
     MmMethod::kHfToMmDcp},
};

constexpr std::string_view kPeftPrefix = "base_model.model.";

Result<LayoutRequest> ReadLayout(const MmConfig& config, std::string_view group) {
  constexpr std::pair<const char*, const char*> kNames[] = {{"llm_pp_layers", "llm-pp-layers"},
                                                            {"vit_pp_layers", "vit-pp-layers"},
                                                            {"audio_pp_layers", "audio-pp-layers"},
                                                            {"tp_size", "tp"},
                                                            {"vit_tp_size", "vit-tp"},
                                                            {"audio_tp_size", "audio-tp"},
                                                            {"ep_size", "ep"}};
  LayoutRequest layout;
  for (const auto& [field, name] : kNames) {
    const std::string value = config.Text(fmt::format("cfg.{}.{}", group, field));
    if (value.empty() || value == "0") continue;
    if (auto set = ParseLayoutText(fmt::format("{}={}", name, value), &layout); !set)
      return std::unexpected(std::move(set).error());
  }
  return layout;
}

// What is split anew stays in its flavor, unless the other one is asked for.
std::string RecipeName(const Converter& converter, MmMethod method, const MmConfig& config) {
  const std::string flavor = config.Flag("cfg.common_model_config.enable_canonical_hf_struct")
                                 ? "mindspeed-mm-canonical"
                             : method == MmMethod::kResplit ? "auto"
                                                            : "mindspeed-mm";
  return *converter.model == '\0' ? flavor : fmt::format("{}/{}", flavor, converter.model);
}

// What of an hf_to_mm is chosen, and where from.
Result<> ReadSelection(const MmConfig& config, ConvertRequest* request) {
  const std::string weights = config.Text("cfg.pt_path");
  if (!weights.empty()) {
    request->source = weights;
    request->from = "pt";
    request->from_recipe = "identity";
  }
  const std::string prefix = config.Text("cfg.common_model_config.model_prefix");
  if (!prefix.empty() && prefix != kPeftPrefix)
    return std::unexpected(Error{
        .kind = ErrorKind::kUsage,
        .found = fmt::format("cfg.common_model_config.model_prefix = '{}'", Printable(prefix)),
        .expected = std::string(kPeftPrefix),
        .help = "for another prefix write a recipe like 'reshard recipe show peft', and use "
                "reshard convert --from-recipe"});
  if (!prefix.empty()) request->from_recipe = "peft";
  request->llm_from = config.Text("cfg.common_model_config.llm_hf_dir");
  const bool vit = config.Flag("cfg.save_vit_only"), lora = config.Flag("cfg.save_lora_only");
  if (vit && lora)
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .found = "both cfg.save_vit_only and cfg.save_lora_only",
                                 .expected = "at most one of them"});
  request->only = vit ? "vit" : lora ? "lora" : "";
  // The documented size is smaller than the published vocabulary: rows would be lost.
  if (!config.Text("cfg.common_model_config.resize_vocab_size").empty())
    return std::unexpected(
        Error{.kind = ErrorKind::kUsage,
              .found = "cfg.common_model_config.resize_vocab_size is not supported",
              .expected = "the vocabulary as it is",
              .help = "resize it with transformers' resize_token_embeddings first"});
  return {};
}

Result<ConvertRequest> ReadRequest(const Converter& converter, MmMethod method,
                                   const MmConfig& config) {
  ConvertRequest request{.recipe = RecipeName(converter, method, config),
                         .hub_form = method == MmMethod::kResplit
                                         ? std::string()
                                         : config.Text("cfg.common_model_config.hub_form"),
                         .assets_from = config.Text("cfg.hf_config.hf_dir")};
  const std::string& hf = request.assets_from;
  const std::string mm = config.Text("cfg.mm_dir");
  auto layout = ReadLayout(
      config, method == MmMethod::kResplit ? "target_parallel_config" : "parallel_config");
  if (!layout) return std::unexpected(std::move(layout).error());
  switch (method) {
    case MmMethod::kHfToMm:
    case MmMethod::kHfToMmDcp:
      request.source = hf;
      request.from = "hf";
      request.destination = mm;
      request.to = method == MmMethod::kHfToMm ? Kind::kMegatron : Kind::kDcp;
      request.in_root = request.to == Kind::kDcp;
      request.layout = *std::move(layout);
      if (auto read = ReadSelection(config, &request); !read)
        return std::unexpected(std::move(read).error());
      break;
    case MmMethod::kMmToHf:
      request.source = mm;
      request.from = "megatron";
      request.from_layout = *std::move(layout);
      request.destination = config.Text("cfg.save_hf_dir");
      request.like = hf;
      break;
    case MmMethod::kResplit: {
      auto source_layout = ReadLayout(config, "source_parallel_config");
      if (!source_layout) return std::unexpected(std::move(source_layout).error());
      request.source = config.Text("cfg.source_dir");
      request.from = "megatron";
      request.from_layout = *std::move(source_layout);
      request.destination = config.Text("cfg.target_dir");
      request.to = Kind::kMegatron;
      request.layout = *std::move(layout);
      break;
    }
  }
  return request;
}

// A method of a converter, as its subcommand.
struct MethodCommand {
  const Converter& converter;
  const Method& method;
  const CLI::App* app = nullptr;
  std::map<const CLI::Option*, std::string> fields;  // what an option sets
  const CLI::Option* config_file = nullptr;
  std::string print_config;
  RunningOptions running;
  SayingOptions saying{.assets_option = "--cfg.hf_config.hf_dir"};

  void Declare(CLI::App& app_to_fill);
  Result<MmConfig> ReadConfig() const;
  Result<> Run() const;
};

// An option whose values are read from it in the order of the command line.
CLI::Option* AddValueOption(CLI::App& app, const std::string& name, const std::string& help) {
  return app
      .add_option(
          name, [](const CLI::results_t&) { return true; }, help)
      ->expected(1)
      ->type_name("TEXT")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void MethodCommand::Declare(CLI::App& app_to_fill) {
  app = &app_to_fill;
  for (const MmField& field : MmFieldsOf(method.method, converter.fields)) {
    const std::string help = field.required   ? fmt::format("{} (required)", field.help)
                             : field.standard ? fmt::format("{} [{}]", field.help, field.standard)
                                              : field.help;
    fields[AddValueOption(app_to_fill, "--" + field.name, help)->group("Configuration")] =
        field.name;
    std::string hyphens = field.name;
    std::ranges::replace(hyphens, '_', '-');
    if (hyphens != field.name)
      fields[AddValueOption(app_to_fill, "--" + hyphens, "")->group("")] = field.name;
  }
  config_file = AddValueOption(app_to_fill, "--config", "a YAML file of these fields");
  app_to_fill.add_flag("--print_config,--print-config", print_config,
                       "print them as YAML; =comments,skip_default,skip_null");
  running.Declare(app_to_fill);
  saying.Declare(app_to_fill);
}

// Later values replace earlier ones, those of --config included.
Result<MmConfig> MethodCommand::ReadConfig() const {
  MmConfig config(MmFieldsOf(method.method, converter.fields));
  std::map<const CLI::Option*, size_t> taken;
  for (const CLI::Option* option : app->parse_order()) {
    const auto field = fields.find(option);
    if (field == fields.end() && option != config_file) continue;
    const std::string& value = option->results()[taken[option]++];
    auto set = field != fields.end() ? config.Set(field->second, value) : config.SetFromFile(value);
    if (!set) return std::unexpected(std::move(set).error());
  }
  return config;
}

Result<> MethodCommand::Run() const {
  const auto config = ReadConfig();
  if (!config) return std::unexpected(config.error());
  if (!print_config.empty()) {
    const auto style = ParseMmYamlStyle(print_config);
    if (!style) return std::unexpected(style.error());
    Print(config->ToYaml(*style));
    return {};
  }
  if (auto complete = config->CheckComplete(); !complete) {
    complete.error().help = FullName(*app) + " --help";
    return complete;
  }
  auto request = ReadRequest(converter, method.method, *config);
  if (!request) return std::unexpected(request.error());
  request->read_from = config->files();
  const auto run = running.Parse();
  if (!run) return std::unexpected(run.error());
  if (!saying.quiet)
    for (const std::string& note : config->IgnoredFields()) Say(fmt::format("note: {}\n", note));
  return ConvertAndReport(*request, {}, *run, saying);
}

}  // namespace

// The command line of MindSpeed-MM's mm-convert, as jsonargparse makes it: class, method, fields.
std::function<Result<>()> DeclareMmConvert(CLI::App& app) {
  using Chosen = std::shared_ptr<const MethodCommand>;
  auto chosen = std::make_shared<Chosen>();
  app.require_subcommand(1);
  for (const Converter& converter : kConverters) {
    CLI::App* of_class = app.add_subcommand(converter.name, converter.description);
    of_class->require_subcommand(1);
    of_class->footer("");
    for (const Method& method : kMethods) {
      CLI::App* of_method = of_class->add_subcommand(method.name, method.description);
      of_method->alias(method.alias);
      of_method->footer("");
      // Some hundred options in all: only those of the method at hand are declared.
      of_method->preparse_callback([&converter, &method, of_method, chosen](size_t) {
        auto command = std::make_shared<MethodCommand>(converter, method);
        command->Declare(*of_method);
        *chosen = std::move(command);
      });
    }
  }
  app.footer(
      "Example: reshard mm-convert Qwen2VLConverter hf_to_mm --cfg.mm_dir mm\n"
      "         --cfg.hf_config.hf_dir hf --cfg.parallel_config.llm_pp_layers '[[14,14]]'\n"
      "         --cfg.parallel_config.vit_pp_layers '[[32,0]]'");
  return [chosen]() { return (*chosen)->Run(); };
}

}  // namespace reshard::cli
