#include "formats/pickle/pickle_test_support.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>

namespace reshard::pickle {
namespace {

using ShowFolded = std::function<std::string(uint64_t)>;

std::string ShowItems(std::span<const Value> items, const ShowFolded& folded, bool sorted = false) {
  std::vector<std::string> texts;
  for (const Value& item : items) texts.push_back(Show(item, folded));
  if (sorted) std::ranges::sort(texts);
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::string ShowDict(const Value& dict, const ShowFolded& folded) {
  std::vector<std::string> texts;
  for (const auto& [key, value] : dict.entries())
    texts.push_back(fmt::format("{}: {}", Show(key, folded), Show(value, folded)));
  return fmt::format("{{{}}}", fmt::join(texts, ", "));
}

std::string ShowObject(const ObjectParts& object, const ShowFolded& folded) {
  std::string text =
      fmt::format("obj({}, {}", Show(object.callable, folded), Show(object.args, folded));
  const auto part = [&](std::string_view name, const Value& value) {
    if (!value.is(Kind::kNone)) text += fmt::format(", {}={}", name, Show(value, folded));
  };
  part("kwargs", object.kwargs);
  part("state", object.state);
  part("items", object.items);
  part("entries", object.entries);
  return text + ")";
}

}  // namespace

std::string Show(const Value& value, const ShowFolded& folded) {
  switch (value.kind()) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.as_bool() ? "True" : "False";
    case Kind::kInt:
      return std::to_string(value.as_int());
    case Kind::kFloat:
      return fmt::format("{:.17g}", value.as_float());
    case Kind::kString:
      return fmt::format("'{}'", value.text());
    case Kind::kBytes: {
      std::string hex = "b";
      for (char c : value.text()) hex += fmt::format("{:02x}", static_cast<uint8_t>(c));
      return hex;
    }
    case Kind::kTuple:
      return fmt::format("({})", ShowItems(value.items(), folded));
    case Kind::kList:
      return fmt::format("[{}]", ShowItems(value.items(), folded));
    case Kind::kSet:
      return fmt::format("{{{}}}", ShowItems(value.items(), folded, true));
    case Kind::kDict:
      return ShowDict(value, folded);
    case Kind::kGlobal:
      return fmt::format("<{}.{}>", value.module(), value.name());
    case Kind::kObject:
      return ShowObject(value.object(), folded);
    case Kind::kPersistentId:
      return fmt::format("pid {}", Show(value.persistent_id(), folded));
    case Kind::kFolded:
      return folded(value.handle());
  }
  return "?";
}

std::string ReadTestData(std::string_view path) {
  std::ifstream file(fmt::format("{}/{}", RESHARD_TEST_DATA, path), std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> ReadTestLines(std::string_view path) {
  std::istringstream text(ReadTestData(path));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

}  // namespace reshard::pickle
