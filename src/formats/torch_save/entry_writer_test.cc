#include "formats/torch_save/entry_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <limits>
#include <string>

#include "formats/torch_save/tensor_entry.h"
#include "formats/torch_save/test_support.h"

namespace reshard::torch_save {
namespace {

using ::testing::HasSubstr;

class TensorTest : public testing::TestWithParam<std::string> {};

// What torch was given: tests/data/torch_save/make.py.
TEST_P(TensorTest, HasTheBytesThatTorchWrites) {
  simdjson::dom::parser parser;
  const simdjson::padded_string text(TestFile("torch_save/entries.json"));
  const simdjson::dom::element item = parser.parse(text)[GetParam()];
  TensorDecl tensor{.dtype = ParseDType(std::string_view(item["dtype"])).value()};
  for (const int64_t dim : item["shape"].get_array()) tensor.shape.push_back(dim);
  const auto layout = EncodeTensor(tensor);
  ASSERT_TRUE(layout) << layout.error().ToString();
  ExpectAsTorchWrites(Assemble(*layout, {FromHex(item["hex"])}),
                      TestFile("torch_save/entries/" + GetParam() + ".zip"));
}

INSTANTIATE_TEST_SUITE_P(Torch, TensorTest, testing::Values("plain", "scalar", "empty", "large"));

TEST(EntryWriterTest, EveryTypeIsReadBack) {
  for (int i = 0; i < kDTypeCount; ++i) {
    const TensorDecl tensor{"w", static_cast<DType>(i), {2, 3}};
    const auto layout = EncodeTensor(tensor);
    if (!layout) {
      EXPECT_THAT(DTypeName(tensor.dtype), testing::AnyOf(HasSubstr("float6"), HasSubstr("q")));
      EXPECT_EQ(layout.error().kind, ErrorKind::kMapping);
      EXPECT_EQ(layout.error().tensor, "w");
      continue;
    }
    std::string data(static_cast<size_t>(6 * ItemSize(tensor.dtype)), '\0');
    for (size_t k = 0; k < data.size(); ++k) data[k] = static_cast<char>(k + 1);
    const std::string file = Assemble(*layout, {data});
    const MemorySource source(file);
    const auto entry = DecodeTensorEntry(source);
    ASSERT_TRUE(entry) << entry.error().ToString();
    EXPECT_EQ(entry->dtype, tensor.dtype);
    EXPECT_EQ(entry->shape, tensor.shape);
    EXPECT_EQ(entry->data_offset, layout->slots.at(0));
    EXPECT_EQ(Gather(source, *entry), data);
  }
}

TEST(EntryWriterTest, RefusesImpossibleShapes) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  EXPECT_FALSE(EncodeTensor({"w", DType::kInt8, {-1}}));
  EXPECT_FALSE(EncodeTensor({"w", DType::kInt8, {kHuge, 2}}));
  EXPECT_FALSE(EncodeTensor({"w", DType::kInt64, {kHuge / 4}}));
  EXPECT_FALSE(EncodeTensor({"w", DType::kInt8, {int64_t{1} << 62}}));
  EXPECT_TRUE(EncodeTensor({"w", DType::kInt8, {(int64_t{1} << 62) - 1}}));
}

TEST(EntryWriterTest, ValuesHaveTheBytesThatTorchWrites) {
  const std::vector<PlainValue> values = {std::monostate(), true, int64_t{3},
                                          int64_t{1} << 40, 3.0,  std::string("caf\xc3\xa9")};
  simdjson::dom::parser parser;
  const simdjson::padded_string text(TestFile("torch_save/values.json"));
  const simdjson::dom::array expected = parser.parse(text).get_array();
  ASSERT_EQ(expected.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    SCOPED_TRACE(std::string_view(expected.at(i)["value"]));
    const FileLayout layout = EncodeValue(values[i]);
    EXPECT_EQ(layout.literals.size(), 1u);
    EXPECT_TRUE(layout.slots.empty() && layout.late_crcs.empty());
    ExpectAsTorchWrites(Assemble(layout, {}), FromHex(expected.at(i)["hex"]));
  }
}

}  // namespace
}  // namespace reshard::torch_save
