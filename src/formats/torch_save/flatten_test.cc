#include "formats/torch_save/flatten.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/torch_save/test_support.h"

namespace reshard::torch_save {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kPut0("q\0", 2);
const std::string kGet0("h\0", 2);

Result<std::vector<std::string>> Names(const std::string& pickle,
                                       const FlattenLimits& limits = {}) {
  const auto document = pickle::Decode(MemorySource(pickle));
  EXPECT_TRUE(document) << document.error().ToString();
  std::vector<std::string> names;
  const auto visit = [&](const Path&, std::string name, const pickle::Value&) -> Result<> {
    names.push_back(std::move(name));
    return {};
  };
  auto flattened = Flatten(document->root(), "f", visit, limits);
  if (!flattened) return std::unexpected(flattened.error());
  return names;
}

// `levels` lists, each of which holds the next one twice; the innermost holds a dict.
std::string Doubling(int levels) {
  std::string body = "]}a";
  for (int i = 0; i < levels; ++i) {
    // The list made so far goes to slot i, and twice into a new one.
    const std::string slot(1, static_cast<char>(i));
    body += "q" + slot + "0](h" + slot + "h" + slot + "e";
  }
  return Pickle(body);
}

TEST(FlattenTest, JoinsKeysAndIndices) {
  EXPECT_THAT(*Names(Pickle("}" + Text("a") + "](}" + Text("b") + Int(1) + "s" + Int(2) + "es")),
              ElementsAre("a.0.b", "a.1"));
}

TEST(FlattenTest, AListWithAnEmptyMappingIsNoLeaf) {
  EXPECT_THAT(*Names(Pickle("}" + Text("a") + "](}" + Int(2) + "es")), ElementsAre("a.1"));
  EXPECT_THAT(*Names(Pickle("}" + Text("a") + "]s")), ElementsAre("a"));
}

TEST(FlattenTest, AListThatHoldsItselfIsAnError) {
  const auto names = Names(Pickle("]" + kPut0 + kGet0 + "a"));
  ASSERT_FALSE(names);
  EXPECT_THAT(names.error().found, HasSubstr("nested more than 500 deep"));
  const auto with_leaf = Names(Pickle("]" + kPut0 + "(}" + kGet0 + "e"));
  ASSERT_FALSE(with_leaf);
  EXPECT_THAT(with_leaf.error().found, HasSubstr("nested more than 500 deep"));
}

TEST(FlattenTest, DepthIsBounded) {
  const auto nested = [](int levels) {
    std::string body;
    for (int i = 0; i < levels; ++i) body += "}" + Text("k");
    return Pickle(body + Int(1) + std::string(static_cast<size_t>(levels), 's'));
  };
  EXPECT_TRUE(Names(nested(500)));
  EXPECT_FALSE(Names(nested(501)));
}

TEST(FlattenTest, WhatIsSharedTooOftenIsAnError) {
  const FlattenLimits limits{.max_paths = 10'000};
  EXPECT_TRUE(Names(Doubling(5), limits));
  const auto paths = Names(Doubling(60), limits);
  ASSERT_FALSE(paths);
  EXPECT_THAT(paths.error().found, HasSubstr("more than 10000 values"));
  const auto names = Names(Doubling(60), {.max_name_bytes = 10'000});
  ASSERT_FALSE(names);
  EXPECT_THAT(names.error().found, HasSubstr("10000 bytes"));
}

TEST(FlattenTest, ScanningIsBounded) {
  std::string body = "](" + Int(1) + "e";
  for (int i = 0; i < 60; ++i) {
    const std::string slot(1, static_cast<char>(i));
    body += "q" + slot + "0](h" + slot + "h" + slot + "e";
  }
  const auto names = Names(Pickle(body), {.max_scanned = 10'000});
  ASSERT_FALSE(names);
  EXPECT_THAT(names.error().found, HasSubstr("more than 10000 items"));
}

}  // namespace
}  // namespace reshard::torch_save
