#include "reshard/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "reshard/live.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kHidden = 4;
constexpr int64_t kFfn = 6;
constexpr int64_t kVocabulary = 5;

// Of one layer.
constexpr const char* kConfig = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4,
  "intermediate_size": 6, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 2,
  "num_hidden_layers": 1, "vocab_size": 5, "tie_word_embeddings": false})";

// A tiny Llama in the hub's names: the elements of all tensors are 0, 1, 2, ...
class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() {
    const std::string layer = "model.layers.0.";
    Add("model.embed_tokens.weight", {kVocabulary, kHidden});
    for (const char* which : {"q", "k", "v", "o"})
      Add(layer + "self_attn." + which + "_proj.weight", {kHidden, kHidden});
    Add(layer + "mlp.gate_proj.weight", {kFfn, kHidden});
    Add(layer + "mlp.up_proj.weight", {kFfn, kHidden});
    Add(layer + "mlp.down_proj.weight", {kHidden, kFfn});
    Add(layer + "input_layernorm.weight", {kHidden});
    Add(layer + "post_attention_layernorm.weight", {kHidden});
    Add("model.norm.weight", {kHidden});
    Add("lm_head.weight", {kVocabulary, kHidden});
  }

  void Add(const std::string& name, const Shape& shape) {
    const auto count =
        static_cast<size_t>(std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies()));
    std::vector<float>& values = memory_.emplace_back(count);
    std::iota(values.begin(), values.end(), next_);
    next_ += static_cast<float>(count);
    tensors_.push_back({name, DType::kFloat32, shape, {{0, Shape(shape.size(), 0), shape}}});
    std::vector<int64_t> strides(shape.size(), 1);
    for (size_t dim = shape.size(); dim-- > 1;) strides[dim - 1] = strides[dim] * shape[dim];
    bytes_.push_back({name, Shape(shape.size(), 0),
                      reinterpret_cast<const std::byte*>(values.data()), strides});
  }

  Checkpoint Open(const OpenRequest& request = {}) {
    auto source = MakeLiveSource(tensors_, bytes_);
    EXPECT_TRUE(source);
    auto checkpoint = Checkpoint::Map(*std::move(source), request, quiet_);
    EXPECT_TRUE(checkpoint) << checkpoint.error().ToString();
    return *std::move(checkpoint);
  }

  static size_t NumberOf(const Checkpoint& checkpoint, const std::string& name) {
    for (size_t i = 0; i < checkpoint.tensors().size(); ++i)
      if (checkpoint.tensors()[i].name == name) return i;
    ADD_FAILURE() << name;
    return 0;
  }

  float FirstOf(const std::string& name) const {
    for (size_t i = 0; i < tensors_.size(); ++i)
      if (tensors_[i].name == name) return memory_[i][0];
    ADD_FAILURE() << name;
    return 0;
  }

  float next_ = 0;
  std::vector<std::vector<float>> memory_;
  std::vector<LiveTensor> tensors_;
  std::vector<LiveBytes> bytes_;
  Reporter quiet_;
};

TEST_F(CheckpointTest, OwnNamesSorted) {
  const Checkpoint checkpoint = Open();
  ASSERT_EQ(checkpoint.tensors().size(), tensors_.size());
  EXPECT_TRUE(std::ranges::is_sorted(checkpoint.tensors(), {}, &TensorInfo::name));
  EXPECT_EQ(checkpoint.source().kind(), "live");
  EXPECT_EQ(checkpoint.recipe(), "identity");
  EXPECT_TRUE(checkpoint.dropped().empty());
  EXPECT_EQ(checkpoint.check_count(), 0u);
}

TEST_F(CheckpointTest, AFusedTensorIsReadThroughItsView) {
  const Checkpoint checkpoint = Open({.to_recipe = "megatron-core", .config_json = kConfig});
  const size_t fused = NumberOf(checkpoint, "decoder.layers.0.mlp.linear_fc1.weight");
  EXPECT_THAT(checkpoint.tensors()[fused].shape, ElementsAre(2 * kFfn, kHidden));
  EXPECT_THAT(checkpoint.Expression(fused).shape, ElementsAre(2 * kFfn, kHidden));

  // The last row of gate and the first of up, without their last column; every second element.
  std::vector<float> out(2 * 3 * 2, -1);
  const auto read = checkpoint.Read({{{.tensor = fused,
                                       .start = {kFfn - 1, 0},
                                       .extent = {2, 3},
                                       .to = reinterpret_cast<std::byte*>(out.data()),
                                       .strides = {6, 2}}}},
                                    {.jobs = 2}, quiet_);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(read->bytes_filled, 4u * 6);
  EXPECT_EQ(read->bytes_read, 4u * 6);
  const float gate = FirstOf("model.layers.0.mlp.gate_proj.weight") + (kFfn - 1) * kHidden;
  const float up = FirstOf("model.layers.0.mlp.up_proj.weight");
  EXPECT_THAT(out, ElementsAre(gate, -1, gate + 1, -1, gate + 2, -1,  //
                               up, -1, up + 1, -1, up + 2, -1));
}

TEST_F(CheckpointTest, OriginsAreTheSmallestBoxes) {
  const Checkpoint checkpoint = Open({.to_recipe = "megatron-core", .config_json = kConfig});
  const size_t fused = NumberOf(checkpoint, "decoder.layers.0.mlp.linear_fc1.weight");
  const auto origins = checkpoint.Origins(fused, Shape{kFfn - 2, 1}, Shape{3, 2});
  ASSERT_EQ(origins.size(), 2u);
  for (const auto& origin : origins) {
    const bool gate = origin.source == "model.layers.0.mlp.gate_proj.weight";
    EXPECT_TRUE(gate || origin.source == "model.layers.0.mlp.up_proj.weight") << origin.source;
    EXPECT_THAT(origin.first, ElementsAre(gate ? kFfn - 2 : 0, 1));
    EXPECT_THAT(origin.last, ElementsAre(gate ? kFfn - 1 : 0, 2));
  }
}

TEST_F(CheckpointTest, ABoxThatIsNoneIsAUsageError) {
  const Checkpoint checkpoint = Open();
  const size_t number = NumberOf(checkpoint, "model.norm.weight");
  std::vector<float> out(8);
  const auto refused = [&](size_t tensor, const Shape& start, const Shape& extent,
                           const std::vector<int64_t>& strides) {
    const auto read = checkpoint.Read({{{.tensor = tensor,
                                         .start = start,
                                         .extent = extent,
                                         .to = reinterpret_cast<std::byte*>(out.data()),
                                         .strides = strides}}},
                                      {}, quiet_);
    return !read && read.error().kind == ErrorKind::kUsage;
  };
  EXPECT_FALSE(refused(number, {1}, {3}, {1}));
  EXPECT_TRUE(refused(number, {2}, {3}, {1}));
  EXPECT_TRUE(refused(number, {-1}, {2}, {1}));
  EXPECT_TRUE(refused(number, {0}, {-1}, {1}));
  EXPECT_TRUE(refused(number, {5}, {0}, {1}));
  EXPECT_TRUE(refused(number, {INT64_MAX}, {INT64_MAX}, {1}));
  EXPECT_TRUE(refused(number, {0, 0}, {1, 1}, {1, 1}));
  EXPECT_TRUE(refused(number, {0}, {4}, {}));
  EXPECT_TRUE(refused(tensors_.size(), {0}, {1}, {1}));
}

TEST_F(CheckpointTest, ATypeThatElementsCannotBecomeIsRefusedByName) {
  const Checkpoint checkpoint = Open();
  std::vector<int32_t> out(4);
  const auto read = checkpoint.Read({{{.tensor = NumberOf(checkpoint, "model.norm.weight"),
                                       .dtype = DType::kInt32,
                                       .start = {0},
                                       .extent = {4},
                                       .to = reinterpret_cast<std::byte*>(out.data()),
                                       .strides = {1}}}},
                                    {}, quiet_);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().tensor, "model.norm.weight");
}

TEST_F(CheckpointTest, OverflowsAreCountedByName) {
  memory_[0][3] = 1e30f;
  const Checkpoint checkpoint = Open();
  std::vector<uint16_t> out(kVocabulary * kHidden);
  const auto read =
      checkpoint.Read({{{.tensor = NumberOf(checkpoint, "model.embed_tokens.weight"),
                         .dtype = DType::kFloat16,
                         .start = {0, 0},
                         .extent = {kVocabulary, kHidden},
                         .to = reinterpret_cast<std::byte*>(out.data()),
                         .strides = {kHidden, 1}}}},
                      {}, quiet_);
  ASSERT_TRUE(read);
  EXPECT_THAT(read->overflows, ElementsAre(testing::Pair("model.embed_tokens.weight", 1)));
}

TEST_F(CheckpointTest, MemoryThatIsNotHereIsAUsageError) {
  bytes_.pop_back();
  const Checkpoint checkpoint = Open();
  std::vector<float> out(kVocabulary * kHidden);
  const auto read = checkpoint.Read({{{.tensor = NumberOf(checkpoint, "lm_head.weight"),
                                       .start = {0, 0},
                                       .extent = {kVocabulary, kHidden},
                                       .to = reinterpret_cast<std::byte*>(out.data()),
                                       .strides = {kHidden, 1}}}},
                                    {}, quiet_);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().kind, ErrorKind::kUsage);
}

TEST_F(CheckpointTest, WhatDoesNotFitIsRefusedWhenItIsOpened) {
  tensors_.pop_back();
  bytes_.pop_back();
  auto source = MakeLiveSource(tensors_, bytes_);
  ASSERT_TRUE(source);
  const auto checkpoint = Checkpoint::Map(
      *std::move(source), {.to_recipe = "megatron-core", .config_json = kConfig}, quiet_);
  ASSERT_FALSE(checkpoint);
  EXPECT_EQ(checkpoint.error().kind, ErrorKind::kMapping);
  EXPECT_THAT(checkpoint.error().ToString(), HasSubstr("lm_head"));
}

}  // namespace
}  // namespace reshard
