#include "checkpoints/megatron/megatron_sink.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/endian.h"
#include "formats/zip/checksum.h"
#include "io/io_test_support.h"

namespace reshard::megatron {
namespace {

// The file that the layout describes, with the i-th tensor's bytes all i+1.
std::string Assemble(const FileLayout& layout, const std::vector<size_t>& sizes) {
  std::string file(layout.size, '\xee');
  for (const Literal& literal : layout.literals)
    file.replace(literal.offset, literal.bytes.size(), literal.bytes);
  EXPECT_EQ(layout.slots.size(), sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i)
    file.replace(layout.slots[i], sizes[i], sizes[i], static_cast<char>(i + 1));
  for (const LateCrc& late : layout.late_crcs) {
    const uint32_t crc =
        zip::Crc32(std::string_view(file).substr(late.begin, late.end - late.begin));
    for (const uint64_t at : late.targets) StoreLittle(crc, file.data() + at);
  }
  return file;
}

// The files are equal up to one record that torch adds, and the directory that follows.
void ExpectAsTorch(const std::string& ours, const std::string& fixture) {
  const std::string torch =
      BytesOf(std::string(RESHARD_TEST_DATA "/megatron/") + fixture + "/model_optim_rng.pt");
  const size_t last = torch.find("model_optim_rng/.data/serialization_id") - 30;
  ASSERT_LT(last, torch.size());
  EXPECT_EQ(ours.find("PK\1\2"), last);
  EXPECT_EQ(ours.substr(0, last), torch.substr(0, last));
}

const std::vector<TensorDecl> kFirst = {
    {"decoder.layers.0.mlp.linear_fc1.weight", DType::kBFloat16, {4, 3}},
    {"decoder.norm", DType::kBFloat16, {3}}};
const std::vector<TensorDecl> kSecond = {
    {"decoder.layers.0.mlp.linear_fc2.weight", DType::kBFloat16, {3, 2}},
    {"output_layer.weight", DType::kBFloat16, {5, 3}}};

TEST(MegatronSinkTest, WritesTheBytesThatTorchWrites) {
  const std::vector<ChunkDecl> one = {{"model", kFirst}};
  const auto layout = LayoutRankFile(one);
  ASSERT_TRUE(layout) << layout.error().ToString();
  ExpectAsTorch(Assemble(*layout, {24, 6}), "one");
  const std::vector<ChunkDecl> two = {{"model0", kFirst}, {"model1", kSecond}};
  const auto chunks = LayoutRankFile(two);
  ASSERT_TRUE(chunks) << chunks.error().ToString();
  ExpectAsTorch(Assemble(*chunks, {24, 6, 12, 30}), "chunks");
}

TEST(MegatronSinkTest, RefusesKeysThatMegatronWouldNotRead) {
  const auto refused = [](const std::vector<ChunkDecl>& chunks) {
    const auto layout = LayoutRankFile(chunks);
    return !layout && layout.error().kind == ErrorKind::kMapping;
  };
  EXPECT_TRUE(refused({}));
  EXPECT_TRUE(refused({{"model0", kFirst}}));
  EXPECT_TRUE(refused({{"model", kFirst}, {"model1", kSecond}}));
  EXPECT_TRUE(refused({{"model1", kFirst}, {"model0", kSecond}}));
  EXPECT_TRUE(refused({{"module", kFirst}}));
  const std::vector<TensorDecl> twice = {kFirst[1], kFirst[1]};
  EXPECT_TRUE(refused({{"model", twice}}));
}

TEST(MegatronSinkTest, NamesPathsAsMegatronDoes) {
  EXPECT_EQ(IterationName(std::nullopt), "release");
  EXPECT_EQ(IterationName(1000), "iter_0001000");
  EXPECT_EQ(IterationName(12345678), "iter_12345678");
  EXPECT_EQ(TrackerText(std::nullopt), "release");
  EXPECT_EQ(TrackerText(1000), "1000");
  EXPECT_EQ(RankFilePath({.tp = 1, .pp = 2}, {.tp = 2, .pp = 4}),
            "mp_rank_01_002/model_optim_rng.pt");
}

}  // namespace
}  // namespace reshard::megatron
