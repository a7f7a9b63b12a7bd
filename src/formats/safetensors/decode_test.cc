#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "base/checked_math.h"
#include "base/endian.h"
#include "formats/safetensors/safetensors.h"

namespace reshard::safetensors {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

std::string File(std::string_view json, size_t data_bytes) {
  std::string out;
  AppendLittle(uint64_t{json.size()}, &out);
  out += json;
  return out += std::string(data_bytes, 'x');
}

Result<Header> Decode(std::string_view bytes) {
  return DecodeHeader(MemorySource(bytes, "model.safetensors"));
}

/// What is wrong with a file, or "" where nothing is.
std::string Fault(std::string_view bytes) {
  auto header = Decode(bytes);
  if (header) return "";
  EXPECT_EQ(header.error().kind, ErrorKind::kSource);
  EXPECT_EQ(header.error().file, "model.safetensors");
  EXPECT_FALSE(header.error().found.empty());
  return header.error().ToString();
}

// safetensors.torch.save of safetensors 0.8.0, torch 2.13.0.
constexpr std::string_view kGolden = R"({"__metadata__":{"format":"pt"},)"
                                     R"("z":{"dtype":"I64","shape":[1,2],"data_offsets":[0,16]},)"
                                     R"("s":{"dtype":"F32","shape":[],"data_offsets":[16,20]},)"
                                     R"("a":{"dtype":"BF16","shape":[0,7],"data_offsets":[20,20]},)"
                                     R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[20,26]},)"
                                     R"("f":{"dtype":"F4","shape":[1,4],"data_offsets":[26,28]}})";

TEST(SafetensorsDecodeTest, ReadsWhatTheLibraryWrites) {
  const std::string file = File(kGolden, 28);
  const auto header = Decode(file);
  ASSERT_TRUE(header) << header.error().ToString();
  EXPECT_EQ(header->header_bytes, 8 + kGolden.size());
  EXPECT_THAT(header->metadata, ElementsAre(Pair("format", "pt")));
  ASSERT_EQ(header->tensors.size(), 5u);
  const auto expect = [&](size_t i, std::string_view name, DType dtype, Shape shape, uint64_t begin,
                          uint64_t length) {
    const TensorInfo& tensor = header->tensors[i];
    EXPECT_EQ(tensor.name, name);
    EXPECT_EQ(tensor.dtype, dtype) << name;
    EXPECT_EQ(tensor.shape, shape) << name;
    EXPECT_EQ(tensor.begin, header->header_bytes + begin) << name;
    EXPECT_EQ(tensor.length, length) << name;
  };
  expect(0, "z", DType::kInt64, {1, 2}, 0, 16);
  expect(1, "s", DType::kFloat32, {}, 16, 4);
  expect(2, "a", DType::kBFloat16, {0, 7}, 20, 0);
  expect(3, "b", DType::kBFloat16, {3}, 20, 6);
  expect(4, "f", DType::kFloat4E2M1FNx2, {1, 2}, 26, 2);
}

TEST(SafetensorsDecodeTest, ReadsDataThatFollowsOtherBytes) {
  const std::string file = "other entries" + File(kGolden, 28);
  const auto header = DecodeHeader(MemorySource(file), 13);
  ASSERT_TRUE(header) << header.error().ToString();
  EXPECT_EQ(header->header_bytes, 8 + kGolden.size());
  EXPECT_EQ(header->tensors[0].begin, 13 + 8 + kGolden.size());
  EXPECT_FALSE(DecodeHeader(MemorySource(file), file.size() - 3));
  EXPECT_FALSE(DecodeHeader(MemorySource(file), file.size() + 3));
}

TEST(SafetensorsDecodeTest, SixBitTypesCountFourValuesAsOneElement) {
  const auto header = Decode(File(R"({"a":{"dtype":"F6_E2M3","shape":[2,4],"data_offsets":[0,6]},)"
                                  R"("b":{"dtype":"F6_E3M2","shape":[8],"data_offsets":[6,12]}})",
                                  12));
  ASSERT_TRUE(header) << header.error().ToString();
  EXPECT_EQ(header->tensors[0].dtype, DType::kFloat6E2M3x4);
  EXPECT_THAT(header->tensors[0].shape, ElementsAre(2, 1));
  EXPECT_EQ(header->tensors[1].dtype, DType::kFloat6E3M2x4);
  EXPECT_THAT(header->tensors[1].shape, ElementsAre(2));
}

TEST(SafetensorsDecodeTest, EveryTruncationIsRefused) {
  const std::string file = File(kGolden, 28);
  for (size_t size = 0; size < file.size(); ++size)
    EXPECT_NE(Fault(std::string_view(file).substr(0, size)), "") << size;
  EXPECT_THAT(Fault(file + "x"), HasSubstr("1 bytes after the last tensor"));
}

// One tensor, "a", with these fields and `data` bytes.
std::string Fields(std::string_view fields, size_t data = 1) {
  return File("{\"a\":{" + std::string(fields) + "}}", data);
}

// A u8 tensor of one byte, with more fields.
std::string With(std::string_view more) {
  return Fields(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])" + std::string(more));
}

constexpr std::string_view kByte = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";

std::string Named(std::string_view name) {
  return File("{\"" + std::string(name) + "\":" + std::string(kByte) + "}", 1);
}

std::string Nested(size_t levels) {
  return With(",\"x\":" + std::string(levels, '[') + std::string(levels, ']'));
}

// Each verdict was checked against safe_open of safetensors 0.8.0.

TEST(SafetensorsDecodeTest, AcceptsWhatTheLibraryAccepts) {
  const std::string accepted[] = {
      File("{}", 0),
      File(" \t{} \r\n", 0),
      File(R"({"__metadata__":null})", 0),
      File(R"({"__metadata__":{}})", 0),
      File(R"({"__metadata__":{"dtype":"U8"}})", 0),
      Named(""),
      Named("\\u0000"),
      Named("\\ud83d\\ude00"),
      With(R"(,"x":[1,{"y":2.5e3,"z":[null,true,false,"\u00e9"]}],"x":-0)"),
      Nested(125),
      Fields(R"("dt\u0079pe":"U8","shape":[1],"data_offsets":[0,1])"),
      Fields(R"("dtype":"F64","shape":[0,9223372036854775807],"data_offsets":[0,0])", 0),
  };
  for (const std::string& file : accepted) EXPECT_EQ(Fault(file), "") << file;
}

TEST(SafetensorsDecodeTest, EmptyTensorsMayStandAnywhereAmongTheOthers) {
  const std::string file = File(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                R"("z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
                                R"("y":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
                                1);
  const auto header = Decode(file);
  ASSERT_TRUE(header) << header.error().ToString();
  EXPECT_EQ(header->tensors[0].name, "z");
  EXPECT_EQ(header->tensors[1].name, "a");
  EXPECT_EQ(header->tensors[2].name, "y");
}

TEST(SafetensorsDecodeTest, RefusesTextThatIsNotTheExpectedJson) {
  const std::string refused[] = {
      File("", 0),
      File("[]", 0),
      File("null", 0),
      File("{", 0),
      File("}", 0),
      File("{}}", 0),
      File("{}{}", 0),
      File("{}\0\0", 0) + std::string(2, '\0'),
      File(std::string_view("{}\0\0", 4), 0),
      File("\xef\xbb\xbf{}", 0),
      File(R"({"__metadata__":[]})", 0),
      File(R"({"__metadata__":nul})", 0),
      File(R"({"__metadata__":{"a":null}})", 0),
      File(R"({"__metadata__":{"a":1}})", 0),
      File(R"({"__metadata__":{"a":"b"},})", 0),
      File(R"({"__metadata__":{"a":"b" "c":"d"}})", 0),
      Named("a\xff"),
      Named("a\x01"),
      Named("\\q"),
      Named("\\ud800"),
      Named("\\udc00"),
      Named("\\ud800\\u0041"),
      Named("\\ud800\\ud800"),
      With(R"(,"x":"\udc00")"),
      With(R"(,"x":"\q")"),
      With(",\"x\":\"\xff\""),
      With(R"(,"x":1e999)"),
      With(R"(,"x":01)"),
      With(R"(,"x":tru)"),
      With(R"(,"x":nul)"),
      With(R"(,"x":[1,])"),
      With(R"(,"x":[1 2])"),
      With(R"(,"x":{"y"})"),
      With(R"(,"x":{1:2})"),
      With(R"(,"x":)"),
      With(","),
      Nested(126),
      Nested(100'000),
      With(",\"x\":" + std::string(100'000, '[')),
  };
  for (const std::string& file : refused) EXPECT_NE(Fault(file), "") << file.substr(0, 200);
}

TEST(SafetensorsDecodeTest, RefusesRecordsThatAreNoTensor) {
  const std::string refused[] = {
      File(R"({"a":1})", 0),
      File(R"({"a":null})", 0),
      File(R"({"a":["U8",[1],[0,1]]})", 1),  // the library takes this for a record
      Fields(R"("shape":[1],"data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","shape":[1])"),
      Fields(R"("dtype":"u8","shape":[1],"data_offsets":[0,1])"),
      Fields(R"("dtype":"C128","shape":[1],"data_offsets":[0,1])"),
      Fields(R"("dtype":8,"shape":[1],"data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","shape":1,"data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","shape":[1e0],"data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","shape":[-0],"data_offsets":[0,0])", 0),
      Fields(R"("dtype":"U8","shape":[01],"data_offsets":[0,1])"),
      Fields(R"("dtype":"U8","shape":[1],"data_offsets":[-1,0])"),
      Fields(R"("dtype":"U8","shape":[1],"data_offsets":[0.0,1])"),
      Fields(R"("dtype":"U8","shape":[1],"data_offsets":[])"),
      Fields(R"("dtype":"U8","shape":[1],"data_offsets":[0])"),
      Fields(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])"),
      Fields(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"),
      Fields(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"),
      Fields(R"("dtype":"F4","shape":[],"data_offsets":[0,0])", 0),
      Fields(R"("dtype":"F4","shape":[2,1],"data_offsets":[0,1])"),  // the library takes this
      Fields(R"("dtype":"F6_E2M3","shape":[2,2],"data_offsets":[0,3])", 3),  // and this
  };
  for (const std::string& file : refused) EXPECT_NE(Fault(file), "") << file;
}

TEST(SafetensorsDecodeTest, Overflow) {
  const std::string refused[] = {
      Fields(R"("dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,0])", 0),
      Fields(R"("dtype":"U8","shape":[0,18446744073709551615],"data_offsets":[0,0])", 0),
      Fields(R"("dtype":"U8","shape":[9223372036854775807,4,0],"data_offsets":[0,0])", 0),
      Fields(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])", 0),
      Fields(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])", 0),
      Fields(R"("dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615])"),
      Fields(R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0])"),
      Fields(
          R"("dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807])"),
  };
  for (const std::string& file : refused) EXPECT_NE(Fault(file), "") << file;
}

TEST(SafetensorsDecodeTest, RefusesHeaderLengthsThatLie) {
  std::string file = File(kGolden, 28);
  const auto with_length = [&](uint64_t length) {
    StoreLittle(length, file.data());
    return Fault(file);
  };
  EXPECT_EQ(with_length(kGolden.size()), "");
  EXPECT_NE(with_length(0), "");
  EXPECT_NE(with_length(kGolden.size() + 1), "");
  EXPECT_NE(with_length(kGolden.size() - 6), "");
  EXPECT_NE(with_length(file.size() - 8), "");
  EXPECT_THAT(with_length(file.size() - 7), HasSubstr("lies within the file"));
  EXPECT_THAT(with_length(kMaxJsonBytes), HasSubstr("lies within the file"));
  EXPECT_THAT(with_length(kMaxJsonBytes + 1), HasSubstr("at most 100000000"));
  EXPECT_THAT(with_length(~uint64_t{0}), HasSubstr("at most 100000000"));
}

std::string Two(std::string_view first, std::string_view second, size_t data) {
  return File(fmt::format(R"({{"u":{{"dtype":"U8",{}}},"v":{{"dtype":"U8",{}}}}})", first, second),
              data);
}

TEST(SafetensorsDecodeTest, Overlap) {
  EXPECT_THAT(
      Fault(Two(R"("shape":[2],"data_offsets":[0,2])", R"("shape":[2],"data_offsets":[1,3])", 3)),
      HasSubstr("within another tensor"));
  EXPECT_NE(
      Fault(Two(R"("shape":[1],"data_offsets":[0,1])", R"("shape":[1],"data_offsets":[0,1])", 1)),
      "");
  EXPECT_NE(
      Fault(Two(R"("shape":[4],"data_offsets":[0,4])", R"("shape":[0],"data_offsets":[2,2])", 4)),
      "");
}

TEST(SafetensorsDecodeTest, Hole) {
  const std::string fault =
      Fault(Two(R"("shape":[1],"data_offsets":[2,3])", R"("shape":[1],"data_offsets":[0,1])", 3));
  EXPECT_THAT(fault, HasSubstr("after a hole"));
  EXPECT_THAT(fault, HasSubstr("u"));
  EXPECT_NE(Fault(Fields(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])", 2)), "");
  EXPECT_NE(Fault(Fields(R"("dtype":"U8","shape":[0],"data_offsets":[5,5])", 0)), "");
}

TEST(SafetensorsDecodeTest, Duplicate) {
  const std::string byte(kByte);
  // The library keeps the last of two names, and of two metadata keys.
  EXPECT_THAT(Fault(File("{\"a\":" + byte + ",\"a\":" + byte + "}", 1)), HasSubstr("twice"));
  EXPECT_THAT(Fault(File("{\"a\":" + byte + ",\"\\u0061\":" + byte + "}", 1)), HasSubstr("twice"));
  EXPECT_THAT(Fault(File(R"({"__metadata__":{"a":"b","a":"c"}})", 0)), HasSubstr("twice"));
  EXPECT_THAT(Fault(File(R"({"__metadata__":{},"__metadata__":null})", 0)), HasSubstr("twice"));
  EXPECT_THAT(Fault(With(R"(,"dtype":"U8")")), HasSubstr("twice"));
  EXPECT_THAT(Fault(With(R"(,"shape":[1])")), HasSubstr("twice"));
  EXPECT_THAT(Fault(With(R"(,"data_offsets":[0,1])")), HasSubstr("twice"));
}

TEST(SafetensorsDecodeTest, ErrorsNameTheTensorAndThePlace) {
  const auto header = Decode(Fields(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"));
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().tensor, "a");
  EXPECT_THAT(header.error().offset, ::testing::Optional(::testing::AllOf(::testing::Gt(8 + 20u),
                                                                          ::testing::Lt(8 + 34u))));
}

TEST(SafetensorsDecodeTest, ErrorsOfAPartHaveTheFilesOffset) {
  const std::string file = "other entries" + Named("\\q");
  const MemorySource whole(file);
  const auto header = DecodeHeader(SubSource(whole, 13, file.size()));
  ASSERT_FALSE(header);
  EXPECT_THAT(header.error().offset, ::testing::Optional(::testing::Ge(13 + 8u)));
  const auto truncated = DecodeHeader(SubSource(whole, 13, 7));
  ASSERT_FALSE(truncated);
  EXPECT_EQ(truncated.error().offset, 13u);
}

RC_GTEST_PROP(SafetensorsDecodeProp, ReadsBackEveryLayout, ()) {
  const auto names = *rc::gen::unique<std::vector<std::string>>(
      rc::gen::container<std::string>(rc::gen::inRange('\x01', '\x7f')));
  std::vector<TensorDecl> decls;
  for (const std::string& name : names) {
    const auto dtype = *rc::gen::suchThat(
        rc::gen::map(rc::gen::inRange(0, kDTypeCount), [](int i) { return static_cast<DType>(i); }),
        CanHold);
    Shape shape = *rc::gen::container<Shape>(3, rc::gen::inRange<int64_t>(0, 4));
    decls.push_back({name, dtype, std::move(shape)});
  }
  const auto ascii = rc::gen::container<std::string>(rc::gen::inRange('\x01', '\x7f'));
  const auto metadata = *rc::gen::container<Metadata>(ascii, ascii);
  const auto layout = EncodeHeader(decls, metadata);
  RC_ASSERT(layout.has_value());
  std::string file = layout->literals[0].bytes;
  file.resize(layout->size, 'x');
  const auto header = Decode(file);
  RC_ASSERT(header.has_value());
  RC_ASSERT(header->metadata == metadata);
  RC_ASSERT(header->tensors.size() == decls.size());
  for (size_t i = 0; i < decls.size(); ++i) {
    const auto it = std::ranges::find(header->tensors, decls[i].name, &TensorInfo::name);
    RC_ASSERT(it != header->tensors.end());
    RC_ASSERT(it->dtype == decls[i].dtype);
    RC_ASSERT(it->shape == decls[i].shape);
    RC_ASSERT(it->begin == layout->slots[i]);
    RC_ASSERT(int64_t(it->length) == *CheckedNumel(decls[i].shape) * ItemSize(it->dtype));
  }
}

}  // namespace
}  // namespace reshard::safetensors
