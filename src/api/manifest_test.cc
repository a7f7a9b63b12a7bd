#include "api/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <string>

namespace reshard {
namespace {

using testing::HasSubstr;

ConvertRequest Request() {
  return {.source = "/secret/source",
          .destination = "/secret/destination",
          .packing = Packing::kLexicographic,
          .dtype = DType::kBFloat16,
          .dtype_for = {{"norm\"", DType::kFloat32}},
          .shard_size = 12345,
          .weights = Weights::kBin,
          .assets_from = "/secret/assets",
          .ignore = {"^optimizer"}};
}

struct Written {
  Plan plan;
  std::vector<FileChecksum> sums;

  Written() {
    plan.summary.plan_id = "0123";
    plan.summary.recipe = "veomni";
    plan.files = {{.path = "model..v2.bin", .size = kBlockBytes + 1},
                  {.path = "empty", .size = 0},
                  {.path = "folder/tokenizer \xC3\xA9.json", .size = 1}};
    sums = {{.size = kBlockBytes + 1, .blocks = {0xFFFF'FFFF'FFFF'FFFF, 1}},
            {.size = 0},
            {.size = 1, .blocks = {0xABC}}};
  }
  std::string Text() const { return WriteManifest(Request(), plan, "recipe text", sums); }
};

TEST(ManifestTest, RoundTrip) {
  const Written written;
  const auto files = ReadManifest(written.Text(), "m.json");
  ASSERT_TRUE(files) << files.error().ToString();
  ASSERT_EQ(files->size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*files)[i].path, written.plan.files[i].path);
    EXPECT_EQ((*files)[i].sum, written.sums[i]);
  }
}

TEST(ManifestTest, SaysWhatWasAskedAndNoPath) {
  const std::string text = Written().Text();
  EXPECT_THAT(text, testing::Not(HasSubstr("secret")));
  simdjson::dom::parser parser;
  const simdjson::dom::element manifest = parser.parse(text);
  EXPECT_EQ(std::string_view(manifest["plan_id"]), "0123");
  EXPECT_EQ(std::string_view(manifest["recipe"]), "veomni");
  EXPECT_EQ(uint64_t(manifest["block_bytes"]), uint64_t{4} << 20);
  const simdjson::dom::element request = manifest["request"];
  EXPECT_EQ(std::string_view(request["packing"]), "lexicographic");
  EXPECT_EQ(std::string_view(request["dtype"]), "bfloat16");
  EXPECT_EQ(std::string_view(request["dtype_for"].at(0)), "norm\"=float32");
  EXPECT_EQ(uint64_t(request["shard_size"]), 12345u);
  EXPECT_EQ(std::string_view(request["weights"]), "bin");
  EXPECT_EQ(std::string_view(request["ignore"].at(0)), "^optimizer");
  EXPECT_EQ(std::string_view(manifest["files"].at(2)["xxh3_blocks"].at(0)), "0000000000000abc");
}

// What decides the bytes is in the canonical request; where they lie is not.
TEST(ManifestTest, RequestJson) {
  ConvertRequest moved = Request();
  moved.source = moved.destination = moved.assets_from = "elsewhere";
  EXPECT_EQ(RequestJson(moved), RequestJson(Request()));
  ConvertRequest other = Request();
  other.shard_size = 1;
  EXPECT_NE(RequestJson(other), RequestJson(Request()));
  other = Request();
  other.dtype.reset();
  EXPECT_NE(RequestJson(other), RequestJson(Request()));
}

std::string Damaged(const std::string& from, const std::string& to) {
  std::string text = Written().Text();
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  const auto files = ReadManifest(text, "m.json");
  if (files) return "accepted";
  EXPECT_EQ(files.error().kind, ErrorKind::kSource);
  EXPECT_EQ(files.error().file, "m.json");
  return files.error().found;
}

TEST(ManifestTest, Damage) {
  EXPECT_THAT(Damaged("\"reshard_manifest\": 1", "\"reshard_manifest\": 2"), HasSubstr("version"));
  EXPECT_THAT(Damaged("4194304", "4194305"), HasSubstr("version"));
  EXPECT_THAT(Damaged("\"files\"", "\"fils\""), HasSubstr("no files"));
  EXPECT_THAT(Damaged("\"size\": 4194305", "\"size\": 8388609"), HasSubstr("damaged"));
  EXPECT_THAT(Damaged("\"size\": 4194305", "\"size\": -1"), HasSubstr("lacks"));
  EXPECT_THAT(Damaged("ffffffffffffffff", "fffffffffffffffe"), HasSubstr("damaged"));
  EXPECT_THAT(Damaged("0000000000000abc", "abc"), HasSubstr("damaged"));
  EXPECT_THAT(Damaged("0000000000000abc", "000000000000 abc"), HasSubstr("damaged"));
  EXPECT_THAT(Damaged("\"0000000000000abc\"", "7"), HasSubstr("damaged"));
  EXPECT_THAT(Damaged("\"0000000000000abc\"", ""), HasSubstr("damaged"));
  EXPECT_THAT(Damaged("\"xxh3_root\"", "\"xxh4_root\""), HasSubstr("lacks"));
}

TEST(ManifestTest, PathsThatLeadElsewhere) {
  for (const char* path : {"", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "\\u0000"})
    EXPECT_THAT(Damaged("model..v2.bin", path), HasSubstr("outside")) << path;
}

TEST(ManifestTest, NoJson) {
  const std::string whole = Written().Text();
  for (size_t length = 0; length + 2 < whole.size(); ++length)
    ASSERT_FALSE(ReadManifest(whole.substr(0, length), "m.json")) << length;
  for (const char* text : {"[]", "null", "1", "\"files\""})
    EXPECT_FALSE(ReadManifest(text, "m.json")) << text;
}

}  // namespace
}  // namespace reshard
