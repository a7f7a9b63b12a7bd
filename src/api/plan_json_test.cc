#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <string>

#include "reshard/convert.h"

namespace reshard {
namespace {

using testing::HasSubstr;

ConvertRequest Request() {
  return {.source = "a \"source\"\n",
          .destination = "d/\xC3\xA9",
          .from = "dcp",
          .recipe = "veomni",
          .packing = Packing::kLexicographic,
          .dtype = DType::kBFloat16,
          .dtype_for = {{"norm", DType::kFloat32}, {"a=b\\.", DType::kFloat16}},
          .dequantize = DType::kBFloat16,
          .shard_size = UINT64_MAX,
          .weights = Weights::kBin,
          .assets_from = "assets",
          .ignore = {"^x", "y$"}};
}

PlanDescription Description() {
  PlanDescription plan{.summary = {.plan_id = "00ff", .recipe = "veomni", .tensors = 1},
                       .dropped = {{"opt", 7, "it is no weight"}},
                       .warnings = {"careful"},
                       .missing_assets = {"a tokenizer"}};
  plan.files.push_back({.path = "model.bin",
                        .byte_size = 100,
                        .tensors = {{.name = "w",
                                     .dtype = "bfloat16",
                                     .shape = {2, 0},
                                     .offset = 64,
                                     .byte_size = 0,
                                     .view = "cast(\"w\", bfloat16)"}}});
  return plan;
}

void ExpectSame(const ConvertRequest& a, const ConvertRequest& b) {
  EXPECT_EQ(a.source, b.source);
  EXPECT_EQ(a.destination, b.destination);
  EXPECT_EQ(a.from, b.from);
  EXPECT_EQ(a.recipe, b.recipe);
  EXPECT_EQ(a.packing, b.packing);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.dtype_for, b.dtype_for);
  EXPECT_EQ(a.dequantize, b.dequantize);
  EXPECT_EQ(a.shard_size, b.shard_size);
  EXPECT_EQ(a.weights, b.weights);
  EXPECT_EQ(a.assets_from, b.assets_from);
  EXPECT_EQ(a.ignore, b.ignore);
}

TEST(PlanJsonTest, TheRequestComesBack) {
  const ConvertRequest plain{.source = "s", .destination = "d"};
  for (const ConvertRequest& request : {Request(), plain}) {
    const auto stored = ParsePlanJson(PlanJson(request, Description()), "p.json");
    ASSERT_TRUE(stored) << stored.error().ToString();
    EXPECT_EQ(stored->plan_id, "00ff");
    ExpectSame(stored->request, request);
  }
}

TEST(PlanJsonTest, ShowsTheWholePlan) {
  const std::string text = PlanJson(Request(), Description());
  simdjson::dom::parser parser;
  const simdjson::dom::element plan = parser.parse(text);
  const simdjson::dom::element tensor = plan["files"].at(0)["tensors"].at(0);
  EXPECT_EQ(std::string_view(tensor["name"]), "w");
  EXPECT_EQ(uint64_t(tensor["shape"].at(0)), 2u);
  EXPECT_EQ(uint64_t(tensor["offset"]), 64u);
  EXPECT_EQ(std::string_view(tensor["view"]), "cast(\"w\", bfloat16)");
  EXPECT_EQ(std::string_view(plan["dropped"].at(0)["why"]), "it is no weight");
  EXPECT_EQ(std::string_view(plan["warnings"].at(0)), "careful");
  EXPECT_EQ(std::string_view(plan["missing_assets"].at(0)), "a tokenizer");
  EXPECT_EQ(uint64_t(plan["summary"]["tensors"]), 1u);
}

std::string Damaged(const std::string& from, const std::string& to) {
  std::string text = PlanJson(Request(), Description());
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  const auto stored = ParsePlanJson(text, "p.json");
  if (stored) return "accepted";
  EXPECT_EQ(stored.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(stored.error().file, "p.json");
  return stored.error().found;
}

TEST(PlanJsonTest, Damage) {
  EXPECT_THAT(Damaged("\"reshard_plan\": 1", "\"reshard_plan\": 2"), HasSubstr("version"));
  EXPECT_THAT(Damaged("\"plan_id\": \"00ff\"", "\"plan_id\": 1"), HasSubstr("damaged"));
  EXPECT_THAT(Damaged("\"request\"", "\"rquest\""), HasSubstr("damaged"));
  EXPECT_THAT(Damaged("\"source\": ", "\"sorce\": "), HasSubstr("'source'"));
  EXPECT_THAT(Damaged("\"to\": \"hf\"", "\"to\": \"nemo\""), HasSubstr("'to'"));
  EXPECT_THAT(Damaged("\"lexicographic\"", "\"random\""), HasSubstr("'packing'"));
  EXPECT_THAT(Damaged("\"dtype\": \"bfloat16\"", "\"dtype\": \"int8\""), HasSubstr("'dtype'"));
  EXPECT_THAT(Damaged("\"float16\"", "\"float17\""), HasSubstr("'dtype_for'"));
  EXPECT_THAT(Damaged("\"norm\"", "1"), HasSubstr("'dtype_for'"));
  EXPECT_THAT(Damaged("18446744073709551615", "18446744073709551616"), HasSubstr("plan"));
  EXPECT_THAT(Damaged("18446744073709551615", "0"), HasSubstr("'shard_size'"));
  EXPECT_THAT(Damaged("18446744073709551615", "-5"), HasSubstr("'shard_size'"));
  EXPECT_THAT(Damaged("\"weights\": \"bin\"", "\"weights\": \"gguf\""), HasSubstr("'weights'"));
  EXPECT_THAT(Damaged("\"^x\"", "{}"), HasSubstr("'ignore'"));
}

// Whatever stands where a member of the request should be, the error names that member.
TEST(PlanJsonTest, EachMemberMissingOrOfAnotherType) {
  const std::string text = PlanJson(Request(), Description());
  simdjson::dom::parser parser;
  for (const auto [key, value] : simdjson::dom::object(parser.parse(text)["request"])) {
    const std::string member = fmt::format("\n  \"{}\":", key);
    for (const char* other : {"", "null", "7.5", "[[[]]]", "[1]", "{}", "[null]", "\"a\\u0000b\""}) {
      std::string damaged = text;
      const size_t at = damaged.find(member);
      ASSERT_NE(at, std::string::npos) << key;
      const std::string instead = *other ? fmt::format("\"{}\": {}, ", key, other) : "";
      damaged.replace(at, member.size(), instead + "\"was\":");
      const auto stored = ParsePlanJson(damaged, "p.json");
      ASSERT_FALSE(stored) << key << other;
      EXPECT_THAT(stored.error().found, HasSubstr(fmt::format("'{}'", key))) << other;
    }
  }
}

TEST(PlanJsonTest, TheRequestIsNoObject) {
  for (const char* request : {"null", "[]", "\"text\"", "1", "{}"}) {
    const std::string text = fmt::format(
        "{{\"reshard_plan\": 1, \"plan_id\": \"00\", \"request\": {}}}", request);
    const auto stored = ParsePlanJson(text, "p.json");
    ASSERT_FALSE(stored) << request;
    EXPECT_THAT(stored.error().found, HasSubstr("'source'"));
  }
}

TEST(PlanJsonTest, NoJson) {
  const std::string whole = PlanJson(Request(), Description());
  for (size_t length = 0; length + 2 < whole.size(); ++length)
    ASSERT_FALSE(ParsePlanJson(whole.substr(0, length), "p.json")) << length;
  for (const char* text : {"[]", "null", "1"}) EXPECT_FALSE(ParsePlanJson(text, "p.json")) << text;
}

}  // namespace
}  // namespace reshard
