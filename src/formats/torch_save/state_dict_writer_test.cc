#include "formats/torch_save/state_dict_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <limits>
#include <string>
#include <vector>

#include "formats/torch_save/archive.h"
#include "formats/torch_save/state_dict_pickle.h"
#include "formats/torch_save/test_support.h"
#include "formats/zip/checksum.h"

namespace reshard::torch_save {
namespace {

using ::testing::HasSubstr;

struct StateDict {
  std::vector<TensorDecl> tensors;
  std::vector<std::string> data;
};

// What torch was given: tests/data/torch_save/make.py.
StateDict ReadStateDict() {
  simdjson::dom::parser parser;
  const simdjson::padded_string text(TestFile("torch_save/state_dict.json"));
  StateDict out;
  for (const simdjson::dom::element item : parser.parse(text).get_array()) {
    TensorDecl tensor{.name = std::string(std::string_view(item["name"]))};
    tensor.dtype = ParseDType(std::string_view(item["dtype"])).value();
    for (const int64_t dim : item["shape"].get_array()) tensor.shape.push_back(dim);
    out.tensors.push_back(std::move(tensor));
    out.data.push_back(FromHex(item["hex"]));
  }
  return out;
}

Error EncodeError(const std::vector<TensorDecl>& tensors) {
  const auto layout = EncodeStateDict(tensors);
  EXPECT_FALSE(layout);
  if (layout) return {};
  EXPECT_EQ(layout.error().kind, ErrorKind::kMapping);
  return layout.error();
}

TEST(StateDictWriterTest, WritesTheBytesThatTorchWrites) {
  const StateDict dict = ReadStateDict();
  const auto layout = EncodeStateDict(dict.tensors, "state_dict");
  ASSERT_TRUE(layout) << layout.error().ToString();
  const std::string ours = Assemble(*layout, dict.data);
  ExpectAsTorchWrites(ours, TestFile("torch_save/state_dict.bin"));
}

TEST(StateDictWriterTest, IsReadBack) {
  const StateDict dict = ReadStateDict();
  const std::string file = Assemble(*EncodeStateDict(dict.tensors), dict.data);
  const MemorySource source(file);
  const auto archive = DecodeFile(source);
  ASSERT_TRUE(archive) << archive.error().ToString();
  ASSERT_EQ(archive->tensors.size(), dict.tensors.size());
  for (size_t i = 0; i < dict.tensors.size(); ++i) {
    const TensorLeaf& leaf = archive->tensors[i];
    EXPECT_EQ(leaf.name, dict.tensors[i].name);
    EXPECT_EQ(leaf.tensor.dtype, dict.tensors[i].dtype);
    EXPECT_EQ(leaf.tensor.shape, dict.tensors[i].shape);
    EXPECT_EQ(leaf.tensor.data_offset % 64, 0u);
    EXPECT_EQ(Gather(source, leaf.tensor), dict.data[i]);
  }
}

TEST(StateDictWriterTest, PicklesAnyNumberOfTensorsAsTorchDoes) {
  simdjson::dom::parser parser;
  const simdjson::padded_string text(TestFile("torch_save/state_dicts.json"));
  for (const auto [count, crc] : simdjson::dom::object(parser.parse(text))) {
    std::vector<TensorDecl> tensors;
    for (int i = 0; i < std::stoi(std::string(count)); ++i)
      tensors.push_back({"layer." + std::to_string(i), DType::kInt8, {i % 3}});
    EXPECT_EQ(zip::Crc32(PickleDict(DictOf(tensors))), uint64_t(crc)) << count;
  }
}

TEST(StateDictWriterTest, PicklesNestedDictsAndScalarsAsTorchDoes) {
  Dict ints;
  for (const int64_t number :
       {int64_t{0}, int64_t{255}, int64_t{65535}, int64_t{65536}, int64_t{-1}, int64_t{-129},
        int64_t{1} << 31, -(int64_t{1} << 31) - 1, int64_t{1} << 62})
    ints.items.push_back({std::to_string(number), number});
  const Dict deep{.items = {{"int", int64_t{300}}, {"float", -2.5}}};
  const Dict values{.items = {{"one", Dict{.items = {{"a", int64_t{1}}}}},
                              {"none", Dict{}},
                              {"scalars", Dict{.items = {{"deep", deep}, {"text", "release"}}}},
                              {"ints", ints},
                              {"checkpoint_version", 3.0}}};
  EXPECT_EQ(PickleDict(values), TestFile("torch_save/nested.pkl"));
}

TEST(StateDictWriterTest, SlotsOfNestedTensorsFollowTheOrderOfWriting) {
  const TensorDecl w{"", DType::kInt8, {3}};
  const TensorDecl v{"", DType::kInt8, {2}};
  const Dict dict{.items = {{"b", Dict{.items = {{"w", &w}, {"n", int64_t{4}}}}},
                            {"a", Dict{.items = {{"w", &v}}}},
                            {"last", &w}}};
  const auto layout = EncodeDict(dict);
  ASSERT_TRUE(layout) << layout.error().ToString();
  const std::vector<std::string> data = {"abc", "de", "fgh"};
  const std::string file = Assemble(*layout, data);
  const MemorySource source(file);
  const auto archive = DecodeFile(source);
  ASSERT_TRUE(archive) << archive.error().ToString();
  std::vector<std::string> found;
  for (const TensorLeaf& leaf : archive->tensors)
    found.push_back(leaf.name + "=" + Gather(source, leaf.tensor));
  EXPECT_THAT(found, ::testing::ElementsAre("b.w=abc", "a.w=de", "last=fgh"));
}

TEST(StateDictWriterTest, NamesTheKeysOfWhatIsRefused) {
  const TensorDecl bad{"", DType::kInt8, {-1}};
  const auto error = [](const Dict& inner) {
    const auto layout = EncodeDict(Dict{.items = {{"model", inner}}});
    EXPECT_FALSE(layout);
    return layout ? Error{} : layout.error();
  };
  EXPECT_EQ(error({.items = {{"w", &bad}}}).tensor, "model.w");
  EXPECT_EQ(error({.items = {{"w", 1.0}, {"w", 2.0}}}).tensor, "model.w");
  EXPECT_EQ(error({.items = {{"w", std::string(1 << 20, 'x')}}}).kind, ErrorKind::kMapping);
}

TEST(StateDictWriterTest, AnEmptyDictAndAHugeTensor) {
  const auto empty = EncodeStateDict({});
  ASSERT_TRUE(empty);
  EXPECT_TRUE(DecodeFile(MemorySource(Assemble(*empty, {}))));
  const std::vector<TensorDecl> huge = {{"w", DType::kFloat32, {int64_t{1} << 40, 3}},
                                        {"v", DType::kUInt16, {int64_t{1} << 31}}};
  const auto layout = EncodeStateDict(huge);
  ASSERT_TRUE(layout);
  EXPECT_GT(layout->size, uint64_t{12} << 40);
  uint64_t literals = 0;
  for (const Literal& literal : layout->literals) literals += literal.bytes.size();
  EXPECT_LT(literals, 3000u);
}

TEST(StateDictWriterTest, RefusesWhatTorchHasNot) {
  EXPECT_THAT(EncodeError({{"w", DType::kFloat6E2M3x4, {4}}}).found, HasSubstr("float6"));
  EXPECT_EQ(EncodeError({{"w", DType::kQInt8, {4}}}).tensor, "w");
}

TEST(StateDictWriterTest, RefusesDuplicatesAndImpossibleShapes) {
  EXPECT_EQ(
      EncodeError({{"a", DType::kInt8, {1}}, {"b", DType::kInt8, {}}, {"a", DType::kInt8, {}}})
          .tensor,
      "a");
  EXPECT_EQ(EncodeError({{"w", DType::kInt8, {-1}}}).tensor, "w");
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EncodeError({{"w", DType::kInt8, {kHuge, 2}}});
  EncodeError({{"w", DType::kInt64, {kHuge / 4}}});
  EncodeError({{"w", DType::kInt8, {kHuge / 2}}, {"v", DType::kInt8, {kHuge / 2}}});
  EncodeError({{std::string(1 << 20, 'x'), DType::kInt8, {1}}});
  EXPECT_FALSE(EncodeStateDict({}, "a/b"));
}

}  // namespace
}  // namespace reshard::torch_save
