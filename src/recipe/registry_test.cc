#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "recipe/recipe.h"
#include "view/catalog_builder.h"

namespace reshard {
namespace {

Catalog WithNames(const std::vector<std::string>& names) {
  CatalogBuilder builder;
  builder.AddFile({.path = "f", .size = 4});
  for (const std::string& name : names) {
    builder.AddTensor(name, DType::kFloat32, {1});
    builder.AddWhole(0, 0, 4);
  }
  return *std::move(builder).Build("ckpt");
}

TEST(RegistryTest, AutoTellsAModelInMemoryByNamesAndModel) {
  const auto chosen = [](const std::string& name, const std::string& model) {
    return ChooseRecipe("auto", WithNames({name}), {model})->recipe.name();
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

TEST(RegistryTest, AutoTellsTorchtitanByItsNamesAndTheModelByItsConfig) {
  const Catalog catalog = WithNames({"tok_embeddings.weight", "layers.0.attention_norm.weight",
                                     "layers.0.ffn_norm.weight", "layers.0.attention.wo.weight"});
  const auto chosen = [&](const std::string& architecture) {
    return ChooseRecipe("auto", catalog, {architecture})->recipe.name();
  };
  EXPECT_EQ(chosen("LlamaForCausalLM"), "torchtitan/llama3");
  EXPECT_EQ(chosen("Qwen3ForCausalLM"), "torchtitan/qwen3");
  EXPECT_EQ(chosen("Qwen3MoeForCausalLM"), "torchtitan/qwen3-moe");
  EXPECT_EQ(chosen("DeepseekV3ForCausalLM"), "torchtitan/deepseek-v3");
  EXPECT_EQ(chosen("GptOssForCausalLM"), "torchtitan/gpt-oss");
}

TEST(RegistryTest, AForeignNameIsNotLeftToARecipeThatStandsBack) {
  const Catalog nested = WithNames({"model.tok_embeddings.weight",
                                    "model.layers.0.attention_norm.weight",
                                    "model.layers.0.ffn_norm.weight",
                                    "optimizer.state.tok_embeddings.weight.exp_avg"});
  const auto chosen = ChooseRecipe("auto", nested, {"LlamaForCausalLM"});
  ASSERT_TRUE(chosen) << chosen.error().ToString();
  EXPECT_EQ(chosen->recipe.name(), "torchtitan-nested/llama3");
  for (const auto& models : {std::vector<std::string>(), {"Qwen3ForCausalLM"}}) {
    const auto other = ChooseRecipe("auto", nested, models);
    ASSERT_FALSE(other) << other->recipe.name();
    EXPECT_THAT(other.error().found, testing::HasSubstr("'torchtitan-nested'"));
  }
}

TEST(RegistryTest, NamesOfAFlavorThatHasNoRecipeForTheModelAreNotPassedOn) {
  const Catalog catalog = WithNames({"tok_embeddings.weight", "layers.0.attention_norm.weight",
                                     "layers.0.ffn_norm.weight"});
  const auto unknown = ChooseRecipe("auto", catalog, {});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().kind, ErrorKind::kMapping);
  EXPECT_THAT(unknown.error().found, testing::HasSubstr("the names are those of 'torchtitan'"));
  EXPECT_THAT(unknown.error().found, testing::HasSubstr("no config.json"));
  EXPECT_THAT(unknown.error().expected, testing::HasSubstr("LlamaForCausalLM"));
  EXPECT_THAT(unknown.error().help, testing::HasSubstr("--recipe identity"));
  EXPECT_THAT(ChooseRecipe("auto", catalog, {"OtherForCausalLM"}).error().found,
              testing::HasSubstr("no recipe for OtherForCausalLM"));
}

}  // namespace
}  // namespace reshard
