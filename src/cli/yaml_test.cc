#include "cli/yaml.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reshard::cli {
namespace {

using ::testing::HasSubstr;

// "path=text" of every value; a null as "path".
std::vector<std::string> Read(std::string_view text) {
  const auto values = ParseYaml(text, "a.yaml");
  if (!values) return {values.error().ToString()};
  std::vector<std::string> lines;
  for (const YamlValue& value : *values)
    lines.push_back(value.null ? value.path : value.path + "=" + value.text);
  return lines;
}

Error FaultOf(std::string_view text) {
  const auto values = ParseYaml(text, "a.yaml");
  return values ? Error{.found = "no fault"} : values.error();
}

std::vector<std::string> Lines(std::initializer_list<std::string> lines) { return lines; }

TEST(Yaml, NestedMappingsBecomePaths) {
  EXPECT_EQ(
      Read("# one\ncfg:\n  mm_dir: \"out/a b\"\n  parallel_config:\n    tp_size: 2\n"
           "    llm_pp_layers: [[1,10], [10, 7]]\n  hf_config: {hf_dir: hf}\n"),
      Lines({"cfg.mm_dir=out/a b", "cfg.parallel_config.tp_size=2",
             "cfg.parallel_config.llm_pp_layers=[[1, 10], [10, 7]]", "cfg.hf_config.hf_dir=hf"}));
}

TEST(Yaml, BlockListsAreAsFlowLists) {
  EXPECT_EQ(Read("a:\n- - 1\n  - 10\n- - 7\n  - 8\nb: []\n"),
            Lines({"a=[[1, 10], [7, 8]]", "b=[]"}));
}

TEST(Yaml, Nulls) {
  EXPECT_EQ(Read("a:\nb: null\nc: ~\nd: 'null'\ne: ''\n"), Lines({"a", "b", "c", "d=null", "e="}));
}

TEST(Yaml, LinesCountFromOne) {
  const auto values = ParseYaml("a: 1\nb:\n  c: 2\n", "a.yaml");
  ASSERT_TRUE(values);
  EXPECT_EQ((*values)[0].line, 1u);
  EXPECT_EQ((*values)[1].line, 3u);
}

TEST(Yaml, EmptyHasNoValues) {
  for (const char* text : {"", "\n\n", "# nothing\n", "---\n", "{}", "null"})
    EXPECT_EQ(Read(text), Lines({})) << text;
}

TEST(Yaml, DamagedOrNeedless) {
  for (const char* text :
       {"a: [1, 2", "a: {b: 1", "a: 'b", "a: \"\\q\"", "\ta: 1", "a: 1\n b: 2", "- 1\n- 2", "word",
        "a: 1\n---\nb: 2\n", "a: &x 1\nb: *x\n", "a: *x", "a: !!python/object:os.system [1]",
        "!!map {a: 1}", "a: [{b: 1}]", "? [1, 2]\n: 3", "a: \x01", "a: \xff\xfe", "a: 1\n..\n b"}) {
    const Error fault = FaultOf(text);
    EXPECT_EQ(fault.kind, ErrorKind::kUsage) << text;
    EXPECT_THAT(fault.file, HasSubstr("a.yaml:")) << text;
    EXPECT_FALSE(fault.found.empty()) << text;
  }
}

TEST(Yaml, Duplicate) {
  EXPECT_THAT(FaultOf("a:\n  b: 1\nc: 2\na:\n  b: 3\n").found, HasSubstr("'a.b' is given twice"));
  EXPECT_EQ(FaultOf("a: 1\na: 1\n").file, "a.yaml:2");
}

TEST(Yaml, TooDeep) {
  const auto nested = [](size_t depth, const char* open, const char* close) {
    std::string text;
    for (size_t i = 0; i < depth; ++i) text += open;
    for (size_t i = 0; i < depth; ++i) text += close;
    return text;
  };
  EXPECT_EQ(Read("a: " + nested(kMaxYamlDepth - 1, "[", "]"))[0],
            "a=" + nested(kMaxYamlDepth - 1, "[", "]"));
  for (size_t depth : {kMaxYamlDepth, size_t{500}, kMaxYamlBytes / 2 - 8}) {
    EXPECT_EQ(FaultOf("a: " + nested(depth, "[", "]")).kind, ErrorKind::kUsage);
    EXPECT_EQ(FaultOf(nested(depth / 2 + 9, "{a: ", "}")).kind, ErrorKind::kUsage);
  }
}

TEST(Yaml, TooLarge) {
  EXPECT_THAT(FaultOf("a: " + std::string(kMaxYamlBytes, '1')).found, HasSubstr("too large"));
}

TEST(Yaml, TruncatedAnywhere) {
  const std::string text = "cfg:\n  a: [[1, 2], [3, 4]]\n  b: {c: 'd', e: \"\\u0041\"}\n";
  for (size_t size = 0; size <= text.size(); ++size) {
    const auto values = ParseYaml(std::string_view(text).substr(0, size), "a.yaml");
    if (!values) {
      EXPECT_EQ(values.error().kind, ErrorKind::kUsage) << size;
    }
  }
}

TEST(Yaml, ScalarsReadBack) {
  for (const std::string text : {"out",
                                 "a/b-c_d.e",
                                 "",
                                 "~",
                                 "null",
                                 "a b",
                                 "a: b",
                                 "# a",
                                 "-",
                                 "--- a",
                                 "...",
                                 "[1]",
                                 "'",
                                 "\"",
                                 "\\",
                                 "a\nb\t",
                                 "tr\xc3\xa4"
                                 "ume",
                                 "*a",
                                 "&a",
                                 "!a",
                                 "%a",
                                 "@a",
                                 "`a",
                                 "a #b"})
    EXPECT_EQ(Read("k: " + YamlScalar(text)), Lines({"k=" + text})) << text;
  EXPECT_EQ(YamlScalar("ckpt/Qwen2.5-VL"), "ckpt/Qwen2.5-VL");
}

}  // namespace
}  // namespace reshard::cli
