#include "base/json_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace reshard {
namespace {

// Every expected text was written by CPython's json module.

constexpr std::string_view kAwkward("q\"\\\b\f\n\r\t\0\x1f\x7f\xE2\x80\xA8\xEF\xBF\xBD", 17);

std::string Sample(JsonStyle style) {
  JsonWriter w(style);
  w.BeginObject();
  w.Key("e");
  w.BeginObject();
  w.EndObject();
  w.Key("l");
  w.BeginArray();
  w.EndArray();
  w.Key("metadata");
  w.BeginObject();
  w.Member("neg", std::numeric_limits<int64_t>::min());
  w.Member("total_size", std::numeric_limits<uint64_t>::max());
  w.EndObject();
  w.Key("n");
  w.BeginArray();
  w.Value(nullptr);
  w.Value(true);
  w.BeginArray();
  w.Value(1);
  w.BeginObject();
  w.Member("a", false);
  w.EndObject();
  w.EndArray();
  w.EndArray();
  w.Key("weight_map");
  w.BeginObject();
  w.Member("lm_head", "/");
  w.Member(kAwkward, "m");
  w.Member("\xC3\xA9", "\xF0\x9F\x98\x80");
  w.EndObject();
  w.EndObject();
  return w.Take();
}

TEST(JsonWriterTest, EqualsJsonDumpsWithIndentAndSortedKeys) {
  EXPECT_EQ(Sample({.indent = 2, .ascii = true}), R"({
  "e": {},
  "l": [],
  "metadata": {
    "neg": -9223372036854775808,
    "total_size": 18446744073709551615
  },
  "n": [
    null,
    true,
    [
      1,
      {
        "a": false
      }
    ]
  ],
  "weight_map": {
    "lm_head": "/",
    "q\"\\\b\f\n\r\t\u0000\u001f\u007f\u2028\ufffd": "m",
    "\u00e9": "\ud83d\ude00"
  }
})");
}

TEST(JsonWriterTest, CompactKeepsWhatNeedsNoEscape) {
  EXPECT_EQ(Sample({}),
            "{\"e\":{},\"l\":[],\"metadata\":{\"neg\":-9223372036854775808,"
            "\"total_size\":18446744073709551615},\"n\":[null,true,[1,{\"a\":false}]],"
            "\"weight_map\":{\"lm_head\":\"/\",\"q\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\x7f"
            "\xE2\x80\xA8\xEF\xBF\xBD\":\"m\",\"\xC3\xA9\":\"\xF0\x9F\x98\x80\"}}");
}

TEST(JsonWriterTest, DoublesAreShortestAndStayDoubles) {
  JsonWriter w;
  w.BeginArray();
  for (double number : {0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 123456789012345680.0, 1e-4, 1e-5, 5e-324,
                        1.7976931348623157e308, 2.0 / 3, 1e22, 100.5, HUGE_VAL, std::nan("")})
    w.Value(number);
  w.EndArray();
  EXPECT_EQ(w.Take(),
            "[0.0,-0.0,1.0,0.1,1000000000000000.0,1e+16,1.2345678901234568e+17,0.0001,1e-05,5e-324,"
            "1.7976931348623157e+308,0.6666666666666666,1e+22,100.5,null,null]");
}

std::string Quote(std::string_view text, bool ascii) {
  JsonWriter w({.ascii = ascii});
  w.Value(text);
  return w.Take();
}

TEST(JsonWriterTest, ReplacesInvalidUtf8AsPythonDoes) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"\xff", "\"\\ufffd\""},
      {"a\x80"
       "b",
       "\"a\\ufffdb\""},
      {"\xc3", "\"\\ufffd\""},
      {"\xc3(", "\"\\ufffd(\""},
      {"\xe2\x82", "\"\\ufffd\""},
      {"\xe2\x82x", "\"\\ufffdx\""},
      {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
      {"\xf0\x80\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
      {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
      {"\xc0\xaf", "\"\\ufffd\\ufffd\""},
      {"\xf0\x9f\x98", "\"\\ufffd\""},
      {"\xe0\x9f\xbf", "\"\\ufffd\\ufffd\\ufffd\""},
      {"\xf8\x88\x80\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\""},
      {"\xf0\x9f\x98\x80\x80", "\"\\ud83d\\ude00\\ufffd\""},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(Quote(text, true), expected);
  EXPECT_EQ(Quote("a\x80\xc3(", false), "\"a\xEF\xBF\xBD\xEF\xBF\xBD(\"");
}

TEST(JsonWriterTest, TakeLeavesAnEmptyWriter) {
  JsonWriter w;
  w.Value("a");
  EXPECT_EQ(w.Take(), "\"a\"");
  w.BeginArray();
  w.Value(2);
  w.EndArray();
  EXPECT_EQ(w.Take(), "[2]");
}

TEST(JsonWriterTest, NestsAsDeepAsPromised) {
  JsonWriter w;
  for (size_t i = 0; i < JsonWriter::kMaxDepth; ++i) w.BeginArray();
  for (size_t i = 0; i < JsonWriter::kMaxDepth; ++i) w.EndArray();
  EXPECT_EQ(w.Take(),
            std::string(JsonWriter::kMaxDepth, '[') + std::string(JsonWriter::kMaxDepth, ']'));
}

}  // namespace
}  // namespace reshard
