#include "checkpoints/hf/hf_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/io_test_support.h"

namespace reshard {
namespace {

// json.dumps({"metadata": {"total_size": 12345678901234}, "weight_map": {...}}, indent=2,
// sort_keys=True) + "\n", printed by Python 3.11.
TEST(HfIndexTest, IsWhatPythonWrites) {
  const std::map<std::string, std::string> map = {{"model.layers.2.w", "m1"},
                                                  {"model.layers.10.w", "m2"},
                                                  {"a", "model-00001-of-00002.safetensors"},
                                                  {"q\"\\\n\t\x7f/", "f"},
                                                  {"\xC3\xA9\xF0\x9F\x98\x80", "g"}};
  EXPECT_EQ(WriteWeightMap(12345678901234, map), R"({
  "metadata": {
    "total_size": 12345678901234
  },
  "weight_map": {
    "a": "model-00001-of-00002.safetensors",
    "model.layers.10.w": "m2",
    "model.layers.2.w": "m1",
    "q\"\\\n\t\u007f/": "f",
    "\u00e9\ud83d\ude00": "g"
  }
}
)");
}

class ReadWeightMapTest : public testing::Test {
 protected:
  Result<std::map<std::string, std::string>> Read(std::string_view text) {
    PutBytes(path(), text);
    return ReadWeightMap(path());
  }
  std::filesystem::path path() const { return directory_.path() / "model.safetensors.index.json"; }
  TestDirectory directory_;
};

TEST_F(ReadWeightMapTest, ReadsWhatOthersWrite) {
  const auto map =
      Read(R"({"weight_map": {"b\u00e9": "two", "a": "one"}, "metadata": {"total_size": 1.5}})");
  ASSERT_TRUE(map) << map.error().ToString();
  EXPECT_EQ(*map, (std::map<std::string, std::string>{{"a", "one"}, {"b\xC3\xA9", "two"}}));
  EXPECT_TRUE(Read(R"({"weight_map": {}})")->empty());
}

// json.loads of Python 3.11 gives {"a": "two"}.
TEST_F(ReadWeightMapTest, OfANameThatStandsTwiceTheLastCounts) {
  const auto map = Read(R"({"weight_map": {"a": "one", "a": "two"}})");
  ASSERT_TRUE(map) << map.error().ToString();
  EXPECT_EQ(*map, (std::map<std::string, std::string>{{"a", "two"}}));
}

TEST_F(ReadWeightMapTest, ANulInAFileNameIsNotItsEnd) {
  const auto map = Read(R"({"weight_map": {"a": "model.safetensors\u0000x"}})");
  ASSERT_FALSE(map);
  EXPECT_THAT(map.error().found, testing::HasSubstr("NUL"));
}

TEST_F(ReadWeightMapTest, Damage) {
  for (const char* text : {"", "{", "[]", "null", R"({"weight_map": []})", R"({"metadata": {}})",
                           R"({"weight_map": {"a": 1}})", R"({"weight_map": {"a": null}})",
                           R"({"weight_map": {"a": "f"})"}) {
    const auto map = Read(text);
    ASSERT_FALSE(map) << text;
    EXPECT_EQ(map.error().kind, ErrorKind::kSource);
    EXPECT_EQ(map.error().file, path());
  }
}

TEST_F(ReadWeightMapTest, NoFileOutsideTheDirectory) {
  for (const char* file : {"", ".", "..", "/etc/passwd", "../model.safetensors", "a/../../b", "a/..",
                           "./"}) {
    const auto map = Read(std::string(R"({"weight_map": {"w": ")") + file + "\"}}");
    ASSERT_FALSE(map) << file;
    EXPECT_THAT(map.error().found, testing::StartsWith("'w' is to lie in '"));
  }
}

TEST_F(ReadWeightMapTest, AFileInADirectoryBelow) {
  const auto map = Read(R"({"weight_map": {"w": "a/b.safetensors", "v": "./a//c"}})");
  ASSERT_TRUE(map) << map.error().ToString();
  EXPECT_EQ(*map, (std::map<std::string, std::string>{{"w", "a/b.safetensors"}, {"v", "a/c"}}));
}

TEST_F(ReadWeightMapTest, AMissingIndexIsAnError) {
  EXPECT_FALSE(ReadWeightMap(directory_.path() / "none"));
}

}  // namespace
}  // namespace reshard
