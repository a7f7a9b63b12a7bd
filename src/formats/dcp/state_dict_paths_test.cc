#include "formats/dcp/state_dict_paths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace reshard::dcp {
namespace {

using ::testing::HasSubstr;

Result<> Check(const std::vector<std::pair<std::string, Path>>& values) {
  std::vector<NamedPath> named;
  for (const auto& [name, path] : values) named.push_back({name, &path});
  return CheckPaths(named);
}

std::string CheckError(const std::vector<std::pair<std::string, Path>>& values) {
  const auto checked = Check(values);
  EXPECT_FALSE(checked);
  if (checked) return {};
  EXPECT_EQ(checked.error().kind, ErrorKind::kMapping);
  EXPECT_FALSE(checked.error().tensor.empty());
  return checked.error().found;
}

TEST(StateDictPathsTest, NamesAreTheKeysJoined) {
  EXPECT_EQ(FlatName({"a"}), "a");
  EXPECT_EQ(FlatName({"", "b.c"}), ".b.c");
  EXPECT_EQ(FlatName({"a", int64_t{0}, "lr", int64_t{12}}), "a.0.lr.12");
}

TEST(StateDictPathsTest, TakesWhatTorchFlattens) {
  EXPECT_TRUE(Check({}));
  EXPECT_TRUE(Check({{"", {}}, {"a", {}}, {"a.b", {}}, {"a.b.c", {"a.b.c"}}}));
  EXPECT_TRUE(Check({{"model.a", {"model", "a"}},
                     {"model.a.b", {"model", "a.b"}},
                     {"modelx", {}},
                     {"groups.0.lr", {"groups", int64_t{0}, "lr"}},
                     {"groups.2", {"groups", int64_t{2}}}}));
}

TEST(StateDictPathsTest, RefusesWhatIsNoStateDict) {
  EXPECT_THAT(CheckError({{"a", {}}, {"b", {}}, {"a", {}}}), HasSubstr("two values"));
  EXPECT_THAT(CheckError({{"a.b", {}}, {"a.b", {"a", "b"}}}), HasSubstr("two values"));
  EXPECT_THAT(CheckError({{"a.b", {"a", "c"}}}), HasSubstr("'a.c'"));
  EXPECT_THAT(CheckError({{std::string(1 << 20, 'x'), {}}}), HasSubstr("1048576 bytes"));
  EXPECT_THAT(CheckError({{"0.b", {int64_t{0}, "b"}}}), HasSubstr("begins with an index"));
  EXPECT_THAT(CheckError({{"a.-1", {"a", int64_t{-1}}}}), HasSubstr("negative"));
  EXPECT_THAT(CheckError({{"a", {}}, {"a.b.c", {"a", "b", "c"}}}), HasSubstr("through 'a'"));
  EXPECT_THAT(CheckError({{"a", {}}, {"a.b", {"a", "b"}}, {"a.0", {"a", int64_t{0}}}}),
              HasSubstr("through 'a'"));
  EXPECT_THAT(CheckError({{"a.b", {"a", "b"}}, {"a.0", {"a", int64_t{0}}}}), HasSubstr("by index"));
  EXPECT_THAT(
      CheckError(
          {{"a.b.c", {"a", "b", "c"}}, {"a.z", {"a", "z"}}, {"a.0.c", {"a", int64_t{0}, "c"}}}),
      HasSubstr("by index"));
}

}  // namespace
}  // namespace reshard::dcp
