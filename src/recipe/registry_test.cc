#include <gtest/gtest.h>

#include <string>

#include "recipe/recipe.h"
#include "view/catalog_builder.h"

namespace reshard {
namespace {

Catalog WithName(const std::string& name) {
  CatalogBuilder builder;
  builder.AddFile({.path = "f", .size = 4});
  builder.AddTensor(name, DType::kFloat32, {1});
  builder.AddWhole(0, 0, 4);
  return *std::move(builder).Build("ckpt");
}

TEST(RegistryTest, AutoTellsAModelInMemoryByNamesAndModel) {
  const auto chosen = [](const std::string& name, const std::string& model) {
    return ChooseRecipe("auto", WithName(name), {model})->recipe.name();
  };
  const std::string stacked = "model.layers.3.mlp.experts.gate_up_proj";
  EXPECT_EQ(chosen(stacked, "Qwen3MoeForCausalLM"), "transformers-runtime/qwen3-moe");
  EXPECT_EQ(chosen(stacked, "MixtralForCausalLM"), "transformers-runtime/mixtral");
  EXPECT_EQ(chosen(stacked, "AnotherForCausalLM"), "identity");
  const std::string trained = "model.model.layers.3.mlp.experts.down_proj";
  EXPECT_EQ(chosen(trained, "Qwen3MoeForCausalLM"), "veomni/qwen3-moe");
  EXPECT_EQ(chosen(trained, "AnotherForCausalLM"), "veomni");
  EXPECT_EQ(chosen("model.model.layers.3.mlp.experts.0.up_proj.weight", "Qwen3MoeForCausalLM"),
            "veomni");
  const std::string tower = "model.language_model.norm.weight";
  EXPECT_EQ(chosen(tower, "Qwen2VLForConditionalGeneration"), "transformers-runtime/qwen2-vl");
  EXPECT_EQ(chosen("model." + tower, "Qwen2_5_VLForConditionalGeneration"), "veomni/qwen2-vl");
  EXPECT_EQ(chosen(tower, "Qwen3VLForConditionalGeneration"), "identity");
}

}  // namespace
}  // namespace reshard
