#include "checkpoints/hf/hf_assets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "io/io_test_support.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Replaced(const std::string& json) {
  return EditConfig(json, {.dtype = DType::kBFloat16}).value_or("no object");
}

TEST(EditConfigTest, OnlyTheValueChanges) {
  EXPECT_EQ(Replaced("{ \"a\" : 1,\r\n\t\"torch_dtype\"\t:\n \"float32\" ,\"z\":[ ] }\n\n"),
            "{ \"a\" : 1,\r\n\t\"torch_dtype\"\t:\n \"bfloat16\" ,\"z\":[ ] }\n\n");
  EXPECT_EQ(Replaced(R"({"dtype":"torch.float16"})"), R"({"dtype":"bfloat16"})");
}

TEST(EditConfigTest, Nested) {
  EXPECT_EQ(Replaced(R"({"text_config":{"dtype":"float32","n":1},"v":[{"torch_dtype":"float16"}],
  "dtype":"float64"})"),
            R"({"text_config":{"dtype":"bfloat16","n":1},"v":[{"torch_dtype":"bfloat16"}],
  "dtype":"bfloat16"})");
}

TEST(EditConfigTest, WhatOnlyLooksLikeIt) {
  for (const char* json : {
           R"({"x":"dtype","y":"float32"})",
           R"({"x":["dtype","float32"],"torch_dtype":null,"y":"float32"})",
           R"({"dtype":"auto"})",
           R"({"dtype":"int8"})",
           R"({"dtype":["float32"]})",
           R"({"dtype":{"x":"float32"}})",
           R"({"dtype":1,"x":"float32"})",
           R"({"bnb_4bit_compute_dtype":"float32","Dtype":"float32"})",
           R"({"x":"\"dtype\":\"float32\""})",
           R"({"x":"\\","y":"\"dtype\": "})",
           R"({"\"dtype":"float32"})",
           R"({})",
       })
    EXPECT_EQ(Replaced(json), json);
}

TEST(EditConfigTest, AfterAnEscapedQuoteItStillFindsIt) {
  EXPECT_EQ(Replaced(R"({"x\"":"\\\"","dtype":"float32","y":"\\"})"),
            R"({"x\"":"\\\"","dtype":"bfloat16","y":"\\"})");
}

// What Python's json writes beyond the standard must not stand in the way.
TEST(EditConfigTest, PythonsNumbers) {
  EXPECT_EQ(
      Replaced(R"({"a":NaN,"b":-Infinity,"c":123456789012345678901234567890,"dtype":"float32"})"),
      R"({"a":NaN,"b":-Infinity,"c":123456789012345678901234567890,"dtype":"bfloat16"})");
}

TEST(EditConfigTest, NoObject) {
  for (const std::string& json :
       {std::string(""), std::string("[]"), std::string("\"dtype\""), std::string("{"),
        std::string("{]"), std::string("{}}"), std::string("{} x"), std::string("{\"a"),
        std::string("{\"a\\"), std::string("{\"dtype\":\"float32\""),
        "{\"a\":" + std::string(100'000, '[')})
    EXPECT_EQ(EditConfig(json, {.dtype = DType::kBFloat16}), std::nullopt) << json.substr(0, 30);
}

std::string Dequantized(const std::string& json) {
  return EditConfig(json, {.dequantized = true}).value_or("no object");
}

TEST(EditConfigTest, TheQuantizationGoesWithItsComma) {
  const std::string config = R"("quantization_config" : {"a": [1, {"b": "}"}], "dtype": "float32"})";
  EXPECT_EQ(Dequantized("{\n  " + config + ",\n  \"x\": 1,\n  \"y\": 2\n}"),
            "{\n  \"x\": 1,\n  \"y\": 2\n}");
  EXPECT_EQ(Dequantized("{\n  \"x\": 1,\n  " + config + ",\n  \"y\": 2\n}"),
            "{\n  \"x\": 1,\n  \"y\": 2\n}");
  EXPECT_EQ(Dequantized("{\n  \"x\": 1,\n  " + config + "\n}\n"), "{\n  \"x\": 1\n}\n");
  EXPECT_EQ(Dequantized("{" + config + "}"), "{}");
  EXPECT_EQ(Dequantized(R"({"quantization_config": null, "quantization_config": 1, "x": 2})"),
            R"({"x": 2})");
  EXPECT_EQ(EditConfig("{" + config + R"(, "dtype": "float32"})",
                       {.dtype = DType::kBFloat16, .dequantized = true}),
            R"({"dtype": "bfloat16"})");
}

TEST(EditConfigTest, OnlyTheOutermostQuantizationGoes) {
  for (const char* json : {R"({"text_config": {"quantization_config": {}}})",
                           R"({"x": "quantization_config", "y": ["quantization_config"]})"})
    EXPECT_EQ(Dequantized(json), json);
}

class CollectAssetsTest : public testing::Test {
 protected:
  void Put(const std::string& name, std::string_view text = "x") {
    std::filesystem::create_directories((directory_.path() / name).parent_path());
    PutBytes(directory_.path() / name, text);
  }
  HfAssets Collect(std::optional<DType> dtype = std::nullopt) {
    auto assets = CollectAssets(directory_.path(), {.dtype = dtype});
    EXPECT_TRUE(assets) << assets.error().ToString();
    return assets.value_or(HfAssets());
  }
  TestDirectory directory_;
};

TEST_F(CollectAssetsTest, TellsWhereEachLies) {
  for (const char* name : {"config.json", "1_Pooling/config.json"}) Put(name, name);
  const HfAssets assets = Collect();
  ASSERT_EQ(assets.files.size(), 2u);
  for (const HfAsset& asset : assets.files) {
    EXPECT_EQ(asset.size, asset.path.size());
    EXPECT_EQ(BytesOf(asset.from), asset.path);
    EXPECT_EQ(asset.text, std::nullopt);
  }
}

TEST_F(CollectAssetsTest, SaysWhatALoaderWillMiss) {
  EXPECT_THAT(Collect().missing, ElementsAre(HasSubstr("config.json"), HasSubstr("tokenizer")));
  Put("config.json", "{}");
  EXPECT_THAT(Collect().missing, ElementsAre(HasSubstr("tokenizer")));
  Put("tokenizer.model");
  EXPECT_TRUE(Collect().missing.empty());
}

TEST_F(CollectAssetsTest, TheConfigIsBroughtInLine) {
  Put("config.json", R"({"dtype": "float32"})");
  Put("generation_config.json", R"({"dtype": "float32"})");
  const HfAssets assets = Collect(DType::kBFloat16);
  ASSERT_EQ(assets.files.size(), 2u);
  EXPECT_EQ(assets.files[0].text, R"({"dtype": "bfloat16"})");
  EXPECT_EQ(assets.files[0].size, assets.files[0].text->size());
  EXPECT_EQ(assets.files[1].text, std::nullopt);
}

TEST_F(CollectAssetsTest, AConfigThatIsNoJsonIsAnError) {
  Put("config.json", "{\"dtype\": \"float32\"");
  const auto assets = CollectAssets(directory_.path(), {.dtype = DType::kBFloat16});
  ASSERT_FALSE(assets);
  EXPECT_EQ(assets.error().kind, ErrorKind::kSource);
  EXPECT_EQ(assets.error().file, directory_.path() / "config.json");
}

}  // namespace
}  // namespace reshard
