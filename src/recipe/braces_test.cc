#include "recipe/braces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(BracesTest, ListsAreWrittenOutTheFirstTheSlowest) {
  EXPECT_THAT(*ExpandLists("{q,k,v}_proj"), ElementsAre("q_proj", "k_proj", "v_proj"));
  EXPECT_THAT(*ExpandLists("{a,b}.{layer}.{c,d}"),
              ElementsAre("a.{layer}.c", "a.{layer}.d", "b.{layer}.c", "b.{layer}.d"));
  EXPECT_THAT(*ExpandLists("plain.{layer}"), ElementsAre("plain.{layer}"));
  EXPECT_THAT(*ExpandLists("x{,_norm}"), ElementsAre("x", "x_norm"));
}

TEST(BracesTest, WhatIsNoListStaysForThePatternToRefuse) {
  EXPECT_THAT(*ExpandLists("{a,b"), ElementsAre("{a,b"));
  EXPECT_THAT(*ExpandLists("{a,{b"), ElementsAre("{a,{b"));
  EXPECT_THAT(*ExpandLists(""), ElementsAre(""));
}

TEST(BracesTest, ManyListsAreAnErrorNotAllOfMemory) {
  std::string bomb;
  for (int i = 0; i < 64; ++i) bomb += "{a,b}";
  EXPECT_EQ(ExpandLists(bomb).error().kind, ErrorKind::kUsage);
}

TEST(BracesTest, ChoicesReplaceEachOther) {
  EXPECT_THAT(FirstChoice("x.{layer}.{weight|bias}"), ElementsAre("weight", "bias"));
  EXPECT_THAT(FirstChoice("x.{layer}.weight"), IsEmpty());
  EXPECT_EQ(Choose("{weight|bias}.{q,k}.{weight|bias}", {"weight", "bias"}, "bias"),
            "bias.{q,k}.bias");
  EXPECT_EQ(Choose("{a|b}", {"weight", "bias"}, "bias"), "{a|b}");
}

}  // namespace
}  // namespace reshard
