#include "formats/dcp/dcp_metadata.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "formats/dcp/dcp_test_support.h"

namespace reshard::dcp {
namespace {

using testing::HasSubstr;

class ListingTest : public testing::TestWithParam<std::string> {};

TEST_P(ListingTest, IsWhatTorchReads) {
  const std::string name = GetParam();
  auto metadata =
      name.starts_with("fixture_") ? DecodeText(Fixture(name.substr(8))) : DecodeFile(name);
  ASSERT_TRUE(metadata) << metadata.error().ToString();
  EXPECT_EQ(Listing(*metadata), ExpectedListing(name));
  EXPECT_THAT(metadata->notes, testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Torch, ListingTest,
    testing::Values("fixture_dcp_dtypes", "fixture_dcp_fsspec", "fixture_dcp_nested",
                    "fixture_dcp_safetensors_fmt", "fixture_dcp_zstd", "fixture_meta_2.1",
                    "fixture_meta_2.4", "fixture_meta_2.7", "fixture_meta_2.9", "fixture_meta_2.15",
                    "fixture_meta_py3.11.0", "fixture_meta_py3.14", "fixture_mr_dtensor_1d",
                    "fixture_mr_dtensor_2d", "fixture_mr_tp_fsdp_2d", "plain", "reversed", "shared",
                    "megatron", "transforms", "tuples", "rank0", "rank1"));

TEST(DcpMetadataTest, MergesRanks) {
  auto first = DecodeFile("rank0");
  auto second = DecodeFile("rank1");
  ASSERT_TRUE(first && second);
  auto whole = MergeMetadata({*first, *second});
  ASSERT_TRUE(whole) << whole.error().ToString();
  EXPECT_EQ(Listing(*whole),
            (std::map<std::string, std::string>{{"both",
                                                 "tensor both [] float32 (4) grad=False\n"
                                                 "  (0) (4) __0_0.distcp@0+100\n"},
                                                {"cut",
                                                 "tensor cut [] float32 (4,2) grad=False\n"
                                                 "  (0,0) (2,2) __1_0.distcp@100+100\n"
                                                 "  (2,0) (2,2) __0_0.distcp@100+100\n"},
                                                {"own",
                                                 "tensor own [] bfloat16 (1) grad=False\n"
                                                 "  (0) (1) __1_0.distcp@207+100\n"},
                                                {"step", "object step [] __0_0.distcp@200+7\n"}}));
}

TEST(DcpMetadataTest, MergeRefusesRanksThatDisagree) {
  auto first = DecodeFile("rank0");
  ASSERT_TRUE(first);
  const auto refused = [&](auto change) {
    Metadata other = *first;
    change(&other);
    auto merged = MergeMetadata({*first, other});
    return !merged && merged.error().kind == ErrorKind::kSource && !merged.error().tensor.empty();
  };
  EXPECT_FALSE(refused([](Metadata*) {}));
  EXPECT_TRUE(refused([](Metadata* other) { other->tensors[0].dtype = DType::kInt8; }));
  EXPECT_TRUE(refused([](Metadata* other) { other->tensors[0].shape = {5}; }));
  EXPECT_TRUE(refused([](Metadata* other) { other->tensors[0].name = "step"; }));
  EXPECT_TRUE(refused([](Metadata* other) { other->objects[0].name = "cut"; }));
  EXPECT_TRUE(refused([](Metadata* other) { other->boxes[other->chunks[0].box + 1] = 3; }));
}

TEST(DcpMetadataTest, MergeKeepsTransforms) {
  auto plain = DecodeFile("rank1");
  auto packed = DecodeText(Fixture("dcp_zstd"));
  ASSERT_TRUE(plain && packed);
  auto whole = MergeMetadata({*plain, *packed});
  ASSERT_TRUE(whole) << whole.error().ToString();
  auto expected = ExpectedListing("fixture_dcp_zstd");
  expected.merge(ExpectedListing("rank1"));
  EXPECT_EQ(Listing(*whole), expected);
}

struct Refusal {
  const char* name;
  const char* found;
};

class RefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(RefusalTest, NamesTheTensor) {
  auto metadata = DecodeFile(fmt::format("refused_{}", GetParam().name));
  ASSERT_FALSE(metadata);
  EXPECT_EQ(metadata.error().kind, ErrorKind::kSource);
  EXPECT_EQ(metadata.error().file, "ckpt/.metadata");
  EXPECT_EQ(metadata.error().tensor, "bad");
  EXPECT_THAT(metadata.error().found, HasSubstr(GetParam().found));
}

INSTANTIATE_TEST_SUITE_P(
    DcpMetadata, RefusalTest,
    testing::Values(Refusal{"missing_chunk", "at (2, 0) without an entry"},
                    Refusal{"missing_object", "without an entry"},
                    Refusal{"rank", "a chunk of 1 dimensions in a tensor of 2"},
                    Refusal{"negative_size", "(-4, 3)"},
                    Refusal{"negative_extent", "a chunk at (0, 0) of size (-4, 3)"},
                    Refusal{"negative_start", "a chunk at (-1, 0)"},
                    Refusal{"overflow", "(1099511627776, 1099511627776)"},
                    Refusal{"box_overflow", "a chunk at (9223372036854775807, 0)"},
                    Refusal{"huge", "TensorStorageMetadata that is incomplete"},
                    Refusal{"sparse", "a layout other than torch.strided"},
                    Refusal{"offset_rank", "another number of dimensions"},
                    Refusal{"chunks", "TensorStorageMetadata that is incomplete"},
                    Refusal{"properties", "TensorStorageMetadata that is incomplete"},
                    Refusal{"record", "no record of a tensor"},
                    Refusal{"twice", "that another name has too"}),
    [](const auto& test) { return std::string(test.param.name); });

// The real file with `from` replaced by a text of the same length.
std::string Replaced(std::string_view from, std::string_view to) {
  std::string bytes = Fixture("meta_2.9");
  EXPECT_EQ(from.size(), to.size());
  const size_t at = bytes.find(from);
  EXPECT_NE(at, bytes.npos) << from;
  return bytes.replace(at, from.size(), to);
}

TEST(DcpMetadataDamageTest, UnknownElementType) {
  auto metadata = DecodeText(Replaced("float32", "float33"));
  ASSERT_FALSE(metadata);
  EXPECT_EQ(metadata.error().kind, ErrorKind::kSource);
  EXPECT_FALSE(metadata.error().tensor.empty());
  EXPECT_THAT(metadata.error().found, HasSubstr("torch.float33"));
}

TEST(DcpMetadataDamageTest, FilesOutsideTheCheckpoint) {
  using namespace std::string_literals;
  for (const std::string& path :
       {"/_0_0.distcp"s, "../0_.distcp"s, "a/../../b.dc"s, "a/b/c/d/e/.."s, "a\\b_0.distcp"s,
        "c:_0_.distcp"s, "__0_0.dist\0p"s}) {
    auto metadata = DecodeText(Replaced("__0_0.distcp", path));
    ASSERT_FALSE(metadata) << path;
    EXPECT_EQ(metadata.error().kind, ErrorKind::kSource);
    EXPECT_THAT(metadata.error().found, HasSubstr("the file name"));
  }
  for (const char* path : {"a/b/c.distcp", "..__0.distcp", "a/..b/.c/d.e"})
    EXPECT_TRUE(DecodeText(Replaced("__0_0.distcp", path))) << path;
}

TEST(DcpMetadataDamageTest, NotTheMetadataOfACheckpoint) {
  for (const std::string& bytes :
       {std::string("N."), std::string("}."), std::string(")."),
        Replaced("storage_data", "storage_date"),
        Replaced("state_dict_metadata", "state_dict_metadatb"),
        Replaced("_StorageInfo", "_StorageInfp"), Replaced("MetadataIndex", "MetadataIndez"),
        Replaced("relative_path", "relative_bath")}) {
    auto metadata = DecodeText(bytes);
    ASSERT_FALSE(metadata);
    EXPECT_EQ(metadata.error().kind, ErrorKind::kSource);
  }
}

TEST(DcpMetadataDamageTest, Empty) { EXPECT_FALSE(DecodeText("")); }

TEST(DcpMetadataDamageTest, TruncatedAnywhere) {
  for (const std::string& bytes :
       {Fixture("meta_2.15"), Fixture("mr_dtensor_1d"), Fixture("dcp_zstd")}) {
    for (size_t size = 0; size < bytes.size(); ++size) {
      auto metadata = DecodeText(bytes.substr(0, size));
      ASSERT_FALSE(metadata) << size;
      ASSERT_EQ(metadata.error().kind, ErrorKind::kSource);
    }
  }
}

// Whatever a damaged file decodes as, it is consistent.
TEST(DcpMetadataDamageTest, AnyByteChanged) {
  for (const std::string& whole :
       {Fixture("meta_2.9"), Fixture("dcp_zstd"), Fixture("meta_py3.14")}) {
    for (size_t i = 0; i < whole.size(); ++i) {
      for (const int flip : {0x01, 0x02, 0x20, 0x80, 0xff}) {
        std::string bytes = whole;
        bytes[i] = static_cast<char>(bytes[i] ^ flip);
        auto metadata = DecodeText(bytes);
        if (!metadata)
          ASSERT_EQ(metadata.error().kind, ErrorKind::kSource);
        else
          (void)Listing(*metadata);
      }
    }
  }
}

TEST(DcpMetadataDamageTest, HostileGlobalsAreInert) {
  using namespace std::string_literals;
  auto metadata = DecodeText("cos\nsystem\nX\x04\0\0\0true\x85R."s);
  ASSERT_FALSE(metadata);
  EXPECT_THAT(metadata.error().found, HasSubstr("without the dicts"));
  // In a part that no one reads, a call is passed over.
  EXPECT_TRUE(DecodeText(Replaced("pathlib", "osystem")));
}

}  // namespace
}  // namespace reshard::dcp
