// Any text as a recipe: its patterns, maps and conditions, then bound to a small model and asked for
// names.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "recipe/bound_recipe.h"
#include "recipe/embedded_recipes.h"
#include "recipe/model_config.h"
#include "recipe/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto config = reshard::ModelConfig::Parse(
      R"({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 8,
          "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 16,
          "vocab_size": 32, "num_experts": 4, "tie_word_embeddings": true})",
      "config.json");
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto recipe = reshard::Recipe::Parse(text, "fuzz.toml", reshard::EmbeddedPart);
  if (!recipe) return 0;
  const auto bound = reshard::BoundRecipe::Bind(
      *recipe, *config, {{"tp", 2}, {"pp", 1}, {"vpp", 1}, {"ep", 1}, {"etp", 2}});
  if (!bound) return 0;
  for (std::string_view name : {"model.layers.0.self_attn.q_proj.weight", "lm_head.weight", "",
                                "decoder.layers.1.mlp.experts.linear_fc1.weight3"}) {
    for (const auto& match : {bound->FindHere(name), bound->FindHub(name)})
      if (match && match->rule) (void)bound->IsIn(*match->rule, 1, true);
    (void)bound->Nearest(name, true);
  }
  return 0;
}
