// Any text as a config.json: what is read of it, and its edited form, which must stay readable.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "checkpoints/hf/hf_assets.h"
#include "recipe/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto config = reshard::ModelConfig::Parse(text, "config.json");
  if (config) {
    (void)config->Number("text_config.num_hidden_layers");
    (void)config->List("quantization_config.weight_block_size");
    (void)config->HasObject("vision_config");
  }
  const reshard::ConfigEdits edits = {.dtype = reshard::DType::kBFloat16, .dequantized = true};
  const auto edited = reshard::EditConfig(text, edits);
  // What could be read before an edit can be read after it.
  if (config && edited && !reshard::ModelConfig::Parse(*edited, "config.json")) std::abort();
  return 0;
}
