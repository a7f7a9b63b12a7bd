#include "recipe/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::Optional;
using testing::Pointee;

ModelConfig Config(std::string_view json) { return *ModelConfig::Parse(json, "config.json"); }

TEST(ModelConfigTest, NumbersFlagsListsAndObjectsByPath) {
  const ModelConfig config = Config(R"({
    "architectures": ["A", "B"], "hidden_size": 4096, "tie_word_embeddings": true,
    "text_config": {"hidden_size": 8, "rope": {"sections": [2, 3]}}, "none": null})");
  EXPECT_THAT(config.Number("hidden_size"), Optional(4096));
  EXPECT_THAT(config.Number("tie_word_embeddings"), Optional(1));
  EXPECT_THAT(config.Number("text_config.hidden_size"), Optional(8));
  EXPECT_THAT(config.List("text_config.rope.sections"), Pointee(ElementsAre(2, 3)));
  EXPECT_TRUE(config.HasObject("text_config.rope"));
  EXPECT_THAT(config.architectures(), ElementsAre("A", "B"));
  EXPECT_EQ(config.Number("none"), std::nullopt);
  EXPECT_EQ(config.Number("rope"), std::nullopt);
}

TEST(ModelConfigTest, WhatIsNoSizeCountsAsAbsent) {
  const ModelConfig config = Config(R"({"a": 1.5, "b": "8", "c": [1, "x"], "d": [[1]],
    "e": 9223372036854775808, "f": -3, "g": 1e3, "architectures": "A"})");
  for (const char* name : {"a", "b", "c", "d", "e", "g"})
    EXPECT_EQ(config.Number(name), std::nullopt) << name;
  EXPECT_THAT(config.Number("f"), Optional(-3));
  EXPECT_EQ(config.List("c"), nullptr);
  EXPECT_EQ(config.List("d"), nullptr);
  EXPECT_TRUE(config.architectures().empty());
}

TEST(ModelConfigTest, DamagedFilesAreErrorsThatNameThem) {
  for (const char* bad :
       {"", " ", "{", "}", "[]", "3", "null", "{\"a\": }", "{\"a\": 1,}", "{\"a\": 1} x",
        "{\"a\" 1}", "{'a': 1}", "{\"a\": \"\xff\"}", "{\"a\": 01}", "\xef\xbb\xbf"}) {
    const auto config = ModelConfig::Parse(bad, "m/config.json");
    ASSERT_FALSE(config) << bad;
    EXPECT_EQ(config.error().kind, ErrorKind::kSource);
    EXPECT_EQ(config.error().file, "m/config.json");
  }
}

TEST(ModelConfigTest, EveryTruncationIsAnError) {
  const std::string whole = R"({"text_config": {"hidden_size": 8, "list": [1, 2]}, "x": true})";
  ASSERT_TRUE(ModelConfig::Parse(whole, "c"));
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_FALSE(ModelConfig::Parse(whole.substr(0, length), "c")) << length;
}

TEST(ModelConfigTest, DepthIsBounded) {
  std::string objects, lists;
  for (int i = 0; i < 100'000; ++i) {
    objects += "{\"a\":";
    lists += "[";
  }
  EXPECT_FALSE(ModelConfig::Parse(objects, "c"));
  EXPECT_FALSE(ModelConfig::Parse("{\"a\":" + lists, "c"));
  // Within what JSON readers take, what lies too deep is absent and everything else is there.
  std::string deep = "1";
  for (int i = 0; i < 100; ++i) deep = "{\"a\":" + deep + "}";
  const ModelConfig config = Config("{\"deep\":" + deep + ", \"b\": 2}");
  EXPECT_THAT(config.Number("b"), Optional(2));
  EXPECT_TRUE(config.HasObject("deep.a.a"));
}

TEST(ModelConfigTest, NoTextBreaksTheReader) {
  EXPECT_TRUE(rc::check([] {
    const auto text = *rc::gen::container<std::string>(
        rc::gen::element('{', '}', '[', ']', '"', 'a', ':', ',', '1', '-', '.', 't', '\\', '\0'));
    (void)ModelConfig::Parse("{" + text + "}", "c");
  }));
}

}  // namespace
}  // namespace reshard
