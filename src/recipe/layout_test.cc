#include "recipe/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <filesystem>
#include <fstream>

#include "recipe/recipe_test_support.h"

namespace reshard {
namespace {

using testing::HasSubstr;

LayoutRequest Request(std::string_view text) {
  LayoutRequest request;
  EXPECT_TRUE(ParseLayoutText(text, &request)) << text;
  return request;
}

std::string FaultOf(const LayoutRequest& request, const std::map<std::string, int64_t>& layers) {
  const auto layout = ResolveLayout(request, layers);
  if (layout) return {};
  EXPECT_EQ(layout.error().kind, ErrorKind::kMapping);
  return layout.error().found + " | " + layout.error().expected;
}

TEST(LayoutTest, RowsOfLayers) {
  EXPECT_EQ(*ParseLayerRows("[[4, 4], [4, 2]]"), (LayerRows{{4, 4}, {4, 2}}));
  EXPECT_EQ(*ParseLayerRows("[4,0]"), (LayerRows{{4, 0}}));
  EXPECT_EQ(*ParseLayerRows("[04, 007]"), (LayerRows{{4, 7}})) << "zeros in front change nothing";
}

TEST(LayoutTest, RowsThatAreNone) {
  for (const char* bad : {"",          "[]",     "[[]]",        "4,4",
                          "[4,4",      "[[4,4]", "[[4],[4,4]]", "[4,-1]",
                          "[4,a]",     "[4 4,]", "[4,,4]",      "[[4]]x",
                          "[[[4]]]",   "[+4]",   "[1.5]",       "[99999999999999999999]",
                          "[2000000]", "]",      "[",           "[["})
    EXPECT_EQ(KindOf(ParseLayerRows(bad)), ErrorKind::kUsage) << bad;
}

TEST(LayoutTest, FieldsThatAreNone) {
  for (const char* bad : {"tp", "tp=", "tp=0", "tp=-1", "tp=two", "tp=1x", "tp=9999999999", "x=1",
                          "=1", "tp=2,,pp=2", "llm-pp-layers=4", "]=1,[", "tp=2 "}) {
    LayoutRequest request;
    EXPECT_EQ(KindOf(ParseLayoutText(bad, &request)), ErrorKind::kUsage) << bad;
  }
}

TEST(LayoutTest, TextIsReadBackAsItWas) {
  EXPECT_TRUE(rc::check([] {
    const auto size = [] { return *rc::gen::inRange<int64_t>(0, 65); };
    LayoutRequest request{.tp = size(), .pp = size(), .vpp = size(), .ep = size(), .etp = size()};
    for (const char* part : {"llm", "vit", "audio"}) {
      if (*rc::gen::arbitrary<bool>()) request.part_tp[part] = size() + 1;
      if (*rc::gen::arbitrary<bool>()) continue;
      const auto rows = *rc::gen::inRange<size_t>(1, 4), columns = *rc::gen::inRange<size_t>(1, 5);
      LayerRows list(rows, std::vector<int64_t>(columns));
      for (auto& row : list)
        for (int64_t& count : row) count = size();
      request.part_layers[part] = list;
    }
    LayoutRequest again;
    RC_ASSERT(ParseLayoutText(LayoutText(request), &again).has_value());
    RC_ASSERT(again == request);
  }));
}

TEST(LayoutTest, NoTextBreaksTheReaders) {
  EXPECT_TRUE(rc::check([] {
    const auto text = *rc::gen::container<std::string>(
        rc::gen::element('[', ']', ',', '1', '0', '=', 't', 'p', '-', ' '));
    LayoutRequest request;
    (void)ParseLayoutText(text, &request);
    (void)ParseLayerRows(text);
  }));
}

class LayoutFileTest : public testing::Test {
 protected:
  Result<> Read(const std::string& text, LayoutRequest* request) {
    std::ofstream(path_) << text;
    return ReadLayoutFile(path_, request);
  }
  void TearDown() override { std::filesystem::remove(path_); }

  const std::string path_ = std::filesystem::path(testing::TempDir()) / "reshard_layout_test.toml";
};

TEST_F(LayoutFileTest, SaysTheSameAsTheText) {
  LayoutRequest request;
  const auto read =
      Read("tp = 2\nvit_tp = 1\nllm-pp-layers = [[4, 4], [4, 2]]\nvit_pp_layers = [8]\n", &request);
  ASSERT_TRUE(read) << read.error().ToString();
  EXPECT_EQ(request, Request("tp=2,vit-tp=1,llm-pp-layers=[[4,4],[4,2]],vit-pp-layers=[8]"));
}

TEST_F(LayoutFileTest, FaultsNameTheLine) {
  LayoutRequest request;
  const auto unknown = Read("tp = 2\nxp = 3\n", &request);
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().file, testing::EndsWith(".toml:2"));
  for (const char* bad : {"tp = \"two\"", "tp = 1.5", "tp = [1]", "tp = true", "tp = 012", "tp =",
                          "[tp]\nx = 1", "llm-pp-layers = [[1], [1, 2]]", "llm-pp-layers = 3"})
    EXPECT_EQ(KindOf(Read(bad, &request)), ErrorKind::kUsage) << bad;
  EXPECT_EQ(ReadLayoutFile("/nowhere/layout.toml", &request).error().kind, ErrorKind::kUsage);
}

TEST(LayoutTest, LayersAreSplitEvenlyWhereNoListSaysOtherwise) {
  const Layout layout = *ResolveLayout(Request("tp=2,pp=2,vpp=2"), {{"llm", 8}});
  const StageList& list = layout.stages.at("llm");
  EXPECT_EQ(layout.ranks, 2);
  EXPECT_EQ(layout.etp, 2);
  EXPECT_EQ(list.total(), 8);
  EXPECT_EQ(list.begin(2), 4) << "all first chunks stand before any second one";
  EXPECT_EQ(list.Of(5), 2u);
  EXPECT_EQ(list.last(), 3u);
}

TEST(LayoutTest, StagesWithoutLayersAreNeitherFirstNorLast) {
  const Layout layout = *ResolveLayout(Request("llm-pp-layers=[[0,3,2,0]],vit-pp-layers=[8]"),
                                       {{"llm", 5}, {"vit", 8}});
  EXPECT_EQ(layout.pp, 4);
  const StageList& list = layout.stages.at("llm");
  EXPECT_EQ(list.first(), 1u);
  EXPECT_EQ(list.last(), 2u);
  EXPECT_EQ(list.Of(0), 1u);
  EXPECT_EQ(list.Of(3), 2u);
  EXPECT_EQ(layout.stages.at("vit").At(3), 0u) << "a shorter list repeats";
}

TEST(LayoutTest, WhatDoesNotFitIsSaidWithTheNumbers) {
  EXPECT_THAT(FaultOf(Request("pp=3"), {{"llm", 28}}), HasSubstr("28 layers of 'llm' on 3 stages"));
  EXPECT_THAT(FaultOf(Request("llm-pp-layers=[[7,7]]"), {{"llm", 28}}),
              AllOf(HasSubstr("sum to 14"), HasSubstr("28 layers")));
  EXPECT_THAT(FaultOf(Request("pp=2,llm-pp-layers=[1,1,2]"), {{"llm", 4}}),
              AllOf(HasSubstr("3 stages in llm-pp-layers"), HasSubstr("the 2 of --pp")));
  EXPECT_THAT(FaultOf(Request("vpp=1,llm-pp-layers=[[1],[3]]"), {{"llm", 4}}),
              AllOf(HasSubstr("2 chunks"), HasSubstr("the 1 of --vpp")));
  EXPECT_THAT(FaultOf(Request("pp=4,vit-pp-layers=[1,2,1]"), {{"vit", 4}}),
              AllOf(HasSubstr("3 entries"), HasSubstr("divides")));
  EXPECT_THAT(FaultOf(Request("tp=4,vit-tp=3"), {}), AllOf(HasSubstr("vit-tp is 3"), HasSubstr("divides 4")));
  EXPECT_THAT(FaultOf(Request("tp=3,vit-tp=4"), {}), HasSubstr("tp is 3"));
  EXPECT_THAT(FaultOf(Request("tp=4,etp=3"), {}), HasSubstr("etp is 3"));
}

TEST(LayoutTest, SomePartIsDealtOutToAllStages) {
  const std::map<std::string, int64_t> layers = {{"llm", 4}, {"vit", 4}};
  const auto uses = [&](const char* text) {
    const LayoutRequest request = Request(text);
    return CheckUsesStages(*ResolveLayout(request, layers), request, layers).has_value();
  };
  EXPECT_TRUE(uses("pp=2,vit-pp-layers=[4]")) << "the other part is split evenly";
  EXPECT_TRUE(uses("pp=2,llm-pp-layers=[4],vit-pp-layers=[4,0]"));
  EXPECT_FALSE(uses("pp=2,llm-pp-layers=[4],vit-pp-layers=[4]"));
  EXPECT_FALSE(uses("pp=2,vpp=2,llm-pp-layers=[2,2],vit-pp-layers=[4]"));
  EXPECT_FALSE(uses("llm-pp-layers=[2,2],vit-pp-layers=[[2],[2]]"));
}

TEST(LayoutTest, SizesThatAreHarmlessAloneAreNotMultipliedUnchecked) {
  EXPECT_THAT(FaultOf(Request("pp=1048576,vpp=1048576"), {{"llm", 0}}), HasSubstr("1048576"));
  EXPECT_THAT(FaultOf(Request("tp=1048576,ep=1048576"), {{"llm", 4}}), HasSubstr("at most"));
}

}  // namespace
}  // namespace reshard
