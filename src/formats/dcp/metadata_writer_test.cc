#include "formats/dcp/metadata_writer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/dcp/dcp_test_support.h"

namespace reshard::dcp {
namespace {

class WrittenBackTest : public testing::TestWithParam<std::string> {};

// The metadata that torch wrote, decoded, written and decoded again, says what torch reads in it.
TEST_P(WrittenBackTest, SaysTheSame) {
  const std::string name = GetParam();
  const auto first =
      name.starts_with("fixture_") ? DecodeText(Fixture(name.substr(8))) : DecodeFile(name);
  ASSERT_TRUE(first) << first.error().ToString();
  const auto again = DecodeText(EncodeMetadata(*first));
  ASSERT_TRUE(again) << again.error().ToString();
  auto expected = ExpectedListing(name);
  for (auto& [key, text] : expected)
    if (const size_t at = text.find(" [] "); at != text.npos)
      text.replace(at, 4, fmt::format(" [str:{}] ", key));
  EXPECT_EQ(Listing(*again), expected);
}

INSTANTIATE_TEST_SUITE_P(Torch, WrittenBackTest,
                         testing::Values("fixture_dcp_dtypes", "fixture_dcp_nested",
                                         "fixture_meta_2.1", "fixture_mr_dtensor_1d",
                                         "fixture_mr_tp_fsdp_2d", "plain", "shared", "megatron",
                                         "tuples", "rank0"));

TEST(MetadataWriterTest, Nothing) {
  const auto metadata = DecodeText(EncodeMetadata({}));
  ASSERT_TRUE(metadata) << metadata.error().ToString();
  EXPECT_TRUE(metadata->tensors.empty() && metadata->objects.empty());
}

TEST(MetadataWriterTest, OffsetsBeyond32Bits) {
  Metadata metadata;
  metadata.files = {"__0_0.distcp"};
  metadata.boxes = {int64_t{1} << 40, int64_t{1} << 33};
  metadata.chunks = {
      {.offset = uint64_t{1} << 50, .length = (uint64_t{1} << 33) + 1000, .file = 0, .box = 0}};
  metadata.tensors = {
      {.name = "w", .dtype = DType::kInt8, .shape = {int64_t{1} << 41}, .chunk_count = 1}};
  metadata.objects = {{.name = "o", .offset = uint64_t{1} << 32, .length = 5}};
  const auto again = DecodeText(EncodeMetadata(metadata));
  ASSERT_TRUE(again) << again.error().ToString();
  for (auto* path : {&metadata.tensors[0].path, &metadata.objects[0].path})
    path->push_back(path == &metadata.tensors[0].path ? "w" : "o");
  EXPECT_EQ(Listing(*again), Listing(metadata));
}

// `tensors` tensors of two chunks each, which need no place in a real file.
std::string Many(size_t tensors) {
  Metadata metadata;
  metadata.files = {"__0_0.distcp", "__1_0.distcp"};
  metadata.boxes = {0, 0, 512, 4096, 512, 0, 512, 4096};
  for (size_t i = 0; i < tensors; ++i) {
    metadata.tensors.push_back({.name = fmt::format("layers.{:05}.weight", i),
                                .shape = {1024, 4096},
                                .first_chunk = static_cast<uint32_t>(metadata.chunks.size()),
                                .chunk_count = 2});
    for (const uint32_t rank : {0u, 1u})
      metadata.chunks.push_back(
          {.offset = i << 23, .length = (1 << 23) + 1400, .file = rank, .box = 4 * rank});
  }
  return EncodeMetadata(metadata);
}

TEST(MetadataWriterTest, SizeIsLinearInTheChunks) {
  const std::string some = Many(2500);
  const std::string more = Many(10000);
  EXPECT_LT(more.size(), 4.2 * static_cast<double>(some.size()));
  EXPECT_LT(more.size(), 10000u * 500);
  const auto metadata = DecodeText(more);
  ASSERT_TRUE(metadata) << metadata.error().ToString();
  EXPECT_EQ(metadata->tensors.size(), 10000u);
  EXPECT_EQ(metadata->chunks.size(), 20000u);
}

}  // namespace
}  // namespace reshard::dcp
