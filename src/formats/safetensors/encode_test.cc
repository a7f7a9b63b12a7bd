#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "formats/safetensors/safetensors.h"

namespace reshard::safetensors {
namespace {

using ::testing::HasSubstr;

// The expected headers are the bytes of safetensors.torch.save, version 0.8.0, torch 2.13.0.

std::string Prefixed(uint8_t low, uint8_t high, std::string_view json) {
  std::string out = {static_cast<char>(low), static_cast<char>(high), 0, 0, 0, 0, 0, 0};
  return out += json;
}

TEST(SafetensorsEncodeTest, Empty) {
  const auto bare = EncodeHeader({}, {});
  ASSERT_TRUE(bare);
  EXPECT_EQ(bare->literals[0].bytes, Prefixed(8, 0, "{}      "));
  EXPECT_EQ(bare->size, 16u);
  const auto tagged = EncodeHeader({}, {{"format", "pt"}});
  ASSERT_TRUE(tagged);
  EXPECT_EQ(tagged->literals[0].bytes, Prefixed(32, 0, R"({"__metadata__":{"format":"pt"}})"));
}

TEST(SafetensorsEncodeTest, EveryTypeOfTorch) {
  std::vector<TensorDecl> decls;
  for (DType dtype : {DType::kBool,          DType::kFloat4E2M1FNx2, DType::kUInt8,
                      DType::kInt8,          DType::kFloat8E5M2,     DType::kFloat8E4M3FN,
                      DType::kFloat8E8M0FNU, DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2FNUZ,
                      DType::kInt16,         DType::kUInt16,         DType::kFloat16,
                      DType::kBFloat16,      DType::kInt32,          DType::kUInt32,
                      DType::kFloat32,       DType::kComplex64,      DType::kFloat64,
                      DType::kInt64,         DType::kUInt64})
    decls.push_back({"t." + std::string(DTypeName(dtype)), dtype, {1, 2}});
  const auto layout = EncodeHeader(decls, {{"format", "pt"}});
  ASSERT_TRUE(layout);
  EXPECT_EQ(
      layout->literals[0].bytes,
      Prefixed(
          0200, 5,
          R"({"__metadata__":{"format":"pt"},)"
          R"("t.uint64":{"dtype":"U64","shape":[1,2],"data_offsets":[0,16]},)"
          R"("t.int64":{"dtype":"I64","shape":[1,2],"data_offsets":[16,32]},)"
          R"("t.float64":{"dtype":"F64","shape":[1,2],"data_offsets":[32,48]},)"
          R"("t.complex64":{"dtype":"C64","shape":[1,2],"data_offsets":[48,64]},)"
          R"("t.float32":{"dtype":"F32","shape":[1,2],"data_offsets":[64,72]},)"
          R"("t.uint32":{"dtype":"U32","shape":[1,2],"data_offsets":[72,80]},)"
          R"("t.int32":{"dtype":"I32","shape":[1,2],"data_offsets":[80,88]},)"
          R"("t.bfloat16":{"dtype":"BF16","shape":[1,2],"data_offsets":[88,92]},)"
          R"("t.float16":{"dtype":"F16","shape":[1,2],"data_offsets":[92,96]},)"
          R"("t.uint16":{"dtype":"U16","shape":[1,2],"data_offsets":[96,100]},)"
          R"("t.int16":{"dtype":"I16","shape":[1,2],"data_offsets":[100,104]},)"
          R"("t.float8_e5m2fnuz":{"dtype":"F8_E5M2FNUZ","shape":[1,2],"data_offsets":[104,106]},)"
          R"("t.float8_e4m3fnuz":{"dtype":"F8_E4M3FNUZ","shape":[1,2],"data_offsets":[106,108]},)"
          R"("t.float8_e8m0fnu":{"dtype":"F8_E8M0","shape":[1,2],"data_offsets":[108,110]},)"
          R"("t.float8_e4m3fn":{"dtype":"F8_E4M3","shape":[1,2],"data_offsets":[110,112]},)"
          R"("t.float8_e5m2":{"dtype":"F8_E5M2","shape":[1,2],"data_offsets":[112,114]},)"
          R"("t.int8":{"dtype":"I8","shape":[1,2],"data_offsets":[114,116]},)"
          R"("t.uint8":{"dtype":"U8","shape":[1,2],"data_offsets":[116,118]},)"
          R"("t.float4_e2m1fn_x2":{"dtype":"F4","shape":[1,4],"data_offsets":[118,120]},)"
          R"("t.bool":{"dtype":"BOOL","shape":[1,2],"data_offsets":[120,122]}} )"));
  EXPECT_EQ(layout->size, 1538u);
  EXPECT_EQ(layout->slots[0], layout->literals[0].bytes.size() + 120);  // bool, first declared
  EXPECT_EQ(layout->slots[19], layout->literals[0].bytes.size());       // uint64, last declared
}

TEST(SafetensorsEncodeTest, WidestTypeFirstThenByNameAsBytes) {
  const TensorDecl decls[] = {{"b", DType::kBFloat16, {2}},
                              {"a", DType::kBFloat16, {3}},
                              {"model.layers.10.w", DType::kBFloat16, {1}},
                              {"model.layers.2.w", DType::kBFloat16, {0, 7}},
                              {"Z", DType::kFloat32, {}},
                              {"B", DType::kInt64, {1, 1, 1}}};
  const auto layout = EncodeHeader(decls, {});
  ASSERT_TRUE(layout);
  EXPECT_EQ(
      layout->literals[0].bytes,
      Prefixed('p', 1,
               R"({"B":{"dtype":"I64","shape":[1,1,1],"data_offsets":[0,8]},)"
               R"("Z":{"dtype":"F32","shape":[],"data_offsets":[8,12]},)"
               R"("a":{"dtype":"BF16","shape":[3],"data_offsets":[12,18]},)"
               R"("b":{"dtype":"BF16","shape":[2],"data_offsets":[18,22]},)"
               R"("model.layers.10.w":{"dtype":"BF16","shape":[1],"data_offsets":[22,24]},)"
               R"("model.layers.2.w":{"dtype":"BF16","shape":[0,7],"data_offsets":[24,24]}})"));
  EXPECT_EQ(layout->size, 400u);
}

TEST(SafetensorsEncodeTest, EscapesNamesAsTheLibraryDoes) {
  const TensorDecl decls[] = {
      {"\360\220\200\200", DType::kUInt8, {2}},
      {"\357\277\277", DType::kUInt8, {1}},
      {"a\"\\\177\001\n\t\b\f\r/\303\251\360\237\230\200\342\200\250", DType::kFloat32, {1}},
      {"", DType::kFloat32, {0}}};
  const auto layout = EncodeHeader(decls, {{"k\"\303\251\037", "v\n\\"}});
  ASSERT_TRUE(layout);
  EXPECT_EQ(layout->literals[0].bytes,
            Prefixed(' ', 1,
                     "{\"__metadata__\":{\"k\\\"\303\251\\u001f\":\"v\\n\\\\\"},"
                     "\"\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
                     "\"a\\\"\\\\\177\\u0001\\n\\t\\b\\f\\r/\303\251\360\237\230\200\342\200\250\":"
                     "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                     "\"\357\277\277\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]},"
                     "\"\360\220\200\200\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[5,7]}}"
                     "   "));
  EXPECT_EQ(layout->size, 303u);
}

TEST(SafetensorsEncodeTest, RefusesTypesThatTheFormatDoesNotName) {
  for (DType dtype : {DType::kComplex32, DType::kComplex128, DType::kQInt8, DType::kQUInt4x2,
                      DType::kBits8, DType::kBits4x2}) {
    EXPECT_FALSE(CanHold(dtype)) << DTypeName(dtype);
    const TensorDecl decls[] = {{"good", DType::kInt8, {1}}, {"bad", dtype, {1}}};
    const auto layout = EncodeHeader(decls, {});
    ASSERT_FALSE(layout) << DTypeName(dtype);
    EXPECT_EQ(layout.error().kind, ErrorKind::kMapping);
    EXPECT_EQ(layout.error().tensor, "bad");
    EXPECT_THAT(layout.error().found, HasSubstr(DTypeName(dtype)));
    EXPECT_THAT(layout.error().help, HasSubstr("--ignore"));
  }
  int held = 0;
  for (int i = 0; i < kDTypeCount; ++i) held += CanHold(static_cast<DType>(i));
  EXPECT_EQ(held, 22);
}

Error Refusal(std::span<const TensorDecl> decls, const Metadata& metadata = {}) {
  auto layout = EncodeHeader(decls, metadata);
  EXPECT_FALSE(layout);
  return layout ? Error{} : layout.error();
}

TEST(SafetensorsEncodeTest, RefusesNamesThatWouldNotReadBack) {
  const TensorDecl twice[] = {
      {"a", DType::kInt8, {1}}, {"b", DType::kInt8, {1}}, {"a", DType::kInt64, {1}}};
  EXPECT_EQ(Refusal(twice).tensor, "a");
  const TensorDecl metadata[] = {{"__metadata__", DType::kInt8, {1}}};
  EXPECT_EQ(Refusal(metadata).kind, ErrorKind::kMapping);
  const TensorDecl latin1[] = {{"\xe9", DType::kInt8, {1}}};
  EXPECT_EQ(Refusal(latin1).kind, ErrorKind::kMapping);
  EXPECT_EQ(Refusal({}, {{"k", "\xe9"}}).kind, ErrorKind::kMapping);
}

TEST(SafetensorsEncodeTest, RefusesShapesThatOverflow) {
  const int64_t big = std::numeric_limits<int64_t>::max();
  const TensorDecl wide[] = {{"w", DType::kInt64, {big / 4}}};
  EXPECT_EQ(Refusal(wide).kind, ErrorKind::kMapping);
  const TensorDecl negative[] = {{"w", DType::kInt64, {-1}}};
  EXPECT_EQ(Refusal(negative).kind, ErrorKind::kMapping);
  const TensorDecl packed[] = {{"w", DType::kFloat4E2M1FNx2, {0, big}}};
  EXPECT_EQ(Refusal(packed).kind, ErrorKind::kMapping);
  const TensorDecl scalar[] = {{"w", DType::kFloat4E2M1FNx2, {}}};
  EXPECT_EQ(Refusal(scalar).kind, ErrorKind::kMapping);
  const TensorDecl sum[] = {
      {"u", DType::kInt8, {big}}, {"v", DType::kInt8, {big}}, {"w", DType::kInt8, {big}}};
  EXPECT_EQ(Refusal(sum).kind, ErrorKind::kMapping);
}

TEST(SafetensorsEncodeTest, RefusesAHeaderThatReadersRefuse) {
  // {"__metadata__":{"k":""}} is 25 bytes.
  const auto largest = EncodeHeader({}, {{"k", std::string(kMaxJsonBytes - 25, 'x')}});
  ASSERT_TRUE(largest);
  EXPECT_EQ(largest->literals[0].bytes.size(), 8 + kMaxJsonBytes);
  const Error error = Refusal({}, {{"k", std::string(kMaxJsonBytes - 24, 'x')}});
  EXPECT_EQ(error.kind, ErrorKind::kMapping);
  EXPECT_THAT(error.help, HasSubstr("--shard-size"));
}

}  // namespace
}  // namespace reshard::safetensors
