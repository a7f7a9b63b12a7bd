#include "checkpoints/dcp/dcp_sink.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/endian.h"
#include "checkpoints/dcp/dcp_source.h"
#include "formats/zip/checksum.h"
#include "io/io_test_support.h"

namespace reshard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

size_t RowBytes(const TensorDecl& tensor) {
  auto bytes = static_cast<size_t>(ItemSize(tensor.dtype));
  for (size_t d = 1; d < tensor.shape.size(); ++d) bytes *= static_cast<size_t>(tensor.shape[d]);
  return bytes;
}

size_t Rows(const TensorDecl& tensor) {
  return tensor.shape.empty() ? 1 : static_cast<size_t>(tensor.shape.front());
}

// Every tensor's bytes differ, and those of each from row to row.
std::string DataOf(const TensorDecl& tensor, size_t index) {
  std::string data(Rows(tensor) * RowBytes(tensor), '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + i / 256 + index);
  return data;
}

// The file, its slots filled, and every byte of it from one origin.
std::string Assemble(const DcpFile& file, const std::vector<TensorDecl>& tensors) {
  std::string bytes(file.layout.size, '\xee');
  uint64_t filled = 0;
  const auto fill = [&](uint64_t offset, const std::string& part) {
    ASSERT_LE(offset + part.size(), bytes.size());
    bytes.replace(offset, part.size(), part);
    filled += part.size();
  };
  for (const Literal& literal : file.layout.literals) fill(literal.offset, literal.bytes);
  EXPECT_EQ(file.slots.size(), file.layout.slots.size());
  for (size_t i = 0; i < file.slots.size(); ++i) {
    const DcpSlot& slot = file.slots[i];
    const size_t row = RowBytes(tensors[slot.tensor]);
    fill(file.layout.slots[i],
         DataOf(tensors[slot.tensor], slot.tensor)
             .substr(static_cast<size_t>(slot.start) * row, static_cast<size_t>(slot.count) * row));
  }
  EXPECT_EQ(filled, bytes.size());
  for (const LateCrc& late : file.layout.late_crcs) {
    const uint32_t crc =
        zip::Crc32(std::string_view(bytes).substr(late.begin, late.end - late.begin));
    for (const uint64_t target : late.targets) StoreLittle(crc, bytes.data() + target);
  }
  return bytes;
}

std::unique_ptr<Source> Write(const DcpOutput& output, const std::vector<TensorDecl>& tensors,
                              const std::filesystem::path& directory) {
  for (const DcpFile& file : output.files) PutBytes(directory / file.path, Assemble(file, tensors));
  PutBytes(directory / ".metadata", output.metadata);
  auto source = OpenDcpSource(directory);
  EXPECT_TRUE(source) << source.error().ToString();
  return source ? std::move(*source) : nullptr;
}

// A tensor's rows, read chunk by chunk.
std::string Read(const Source& source, const Tensor& tensor, const TensorDecl& declared) {
  std::string out(Rows(declared) * RowBytes(declared), '\xee');
  for (const Chunk& chunk : source.catalog().chunks(tensor)) {
    const BoxView box = source.catalog().Box(tensor, chunk);
    const auto layout = source.Locate(tensor, chunk);
    EXPECT_TRUE(layout) << layout.error().ToString();
    if (!layout) return {};
    const auto start = box.start.empty() ? 0 : static_cast<size_t>(box.start.front());
    const auto count = box.extent.empty() ? 1 : static_cast<size_t>(box.extent.front());
    const auto part = std::as_writable_bytes(std::span(out))
                          .subspan(start * RowBytes(declared), count * RowBytes(declared));
    EXPECT_TRUE(source.ReadAt(layout->file, layout->offset, part));
  }
  return out;
}

std::vector<std::string> Cuts(const DcpOutput& output, size_t tensor) {
  std::vector<std::string> cuts;
  for (const DcpFile& file : output.files)
    for (const DcpSlot& slot : file.slots)
      if (slot.tensor == tensor)
        cuts.push_back(fmt::format("{} {}+{}", file.path, slot.start, slot.count));
  return cuts;
}

class RanksTest : public testing::TestWithParam<unsigned> {};

TEST_P(RanksTest, IsReadBack) {
  const std::vector<TensorDecl> tensors = {
      {"model.rows", DType::kFloat32, {7, 3}},   {"model.few", DType::kBFloat16, {2, 5}},
      {"model.scalar", DType::kFloat64, {}},     {"model.none", DType::kInt8, {0, 4}},
      {"model.thin", DType::kInt64, {3, 0, 2}},  {"model.flags", DType::kBool, {5}},
      {"model.deep", DType::kUInt16, {4, 2, 3}}, {"model.fp8", DType::kFloat8E4M3FN, {9, 2}},
  };
  const std::vector<DcpObject> objects = {{"checkpoint_version", 3.0, {}},
                                          {"run.step", int64_t{20}, {"run", "step"}}};
  const auto output = LayoutDcp(tensors, {.ranks = GetParam(), .objects = objects});
  ASSERT_TRUE(output) << output.error().ToString();
  ASSERT_EQ(output->files.size(), GetParam());

  const TestDirectory directory;
  const auto source = Write(*output, tensors, directory.path());
  ASSERT_TRUE(source);
  EXPECT_THAT(source->notes(), IsEmpty());
  EXPECT_EQ(source->catalog().tensors().size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    SCOPED_TRACE(tensors[i].name);
    const Tensor* tensor = source->catalog().Find(tensors[i].name);
    ASSERT_TRUE(tensor);
    EXPECT_EQ(tensor->dtype, tensors[i].dtype);
    EXPECT_EQ(tensor->shape, tensors[i].shape);
    EXPECT_EQ(Read(*source, *tensor, tensors[i]), DataOf(tensors[i], i));
  }
  ASSERT_EQ(source->catalog().objects().size(), 2u);
  EXPECT_EQ(source->catalog().objects()[0].summary, "3.0");
  EXPECT_EQ(source->catalog().objects()[1].summary, "20");
}

INSTANTIATE_TEST_SUITE_P(Dcp, RanksTest, testing::Values(1, 2, 3, 4, 16));

TEST(DcpSinkTest, CutsAsTorchChunks) {
  const std::vector<TensorDecl> tensors = {
      {"five", DType::kInt8, {5, 2}}, {"nine", DType::kInt8, {9}},
      {"two", DType::kInt8, {2, 3}},  {"scalar", DType::kInt8, {}},
      {"none", DType::kInt8, {0, 2}}, {"even", DType::kInt8, {8, 1}}};
  const auto output = LayoutDcp(tensors, {.ranks = 4});
  ASSERT_TRUE(output);
  EXPECT_THAT(Cuts(*output, 0),
              ElementsAre("__0_0.distcp 0+2", "__1_0.distcp 2+2", "__2_0.distcp 4+1"));
  EXPECT_THAT(Cuts(*output, 1),
              ElementsAre("__0_0.distcp 0+3", "__1_0.distcp 3+3", "__2_0.distcp 6+3"));
  EXPECT_THAT(Cuts(*output, 2), ElementsAre("__0_0.distcp 0+1", "__1_0.distcp 1+1"));
  EXPECT_THAT(Cuts(*output, 3), ElementsAre("__0_0.distcp 0+1"));
  EXPECT_THAT(Cuts(*output, 4), ElementsAre("__0_0.distcp 0+0"));
  EXPECT_THAT(Cuts(*output, 5), ElementsAre("__0_0.distcp 0+2", "__1_0.distcp 2+2",
                                            "__2_0.distcp 4+2", "__3_0.distcp 6+2"));
}

TEST(DcpSinkTest, ARankWithNothingHasAnEmptyFile) {
  const auto output =
      LayoutDcp(std::vector<TensorDecl>{{"two", DType::kInt8, {2, 3}}}, {.ranks = 3});
  ASSERT_TRUE(output);
  EXPECT_EQ(output->files[2].path, "__2_0.distcp");
  EXPECT_EQ(output->files[2].layout.size, 0u);
}

TEST(DcpSinkTest, NestsAsThePathsSay) {
  const std::vector<TensorDecl> tensors = {{"model.a.b", DType::kInt8, {2}},
                                           {"flat.c", DType::kInt8, {2}}};
  const std::vector<dcp::Path> paths = {{"model", "a.b"}, {}};
  const auto output = LayoutDcp(tensors, {.ranks = 2, .paths = paths});
  ASSERT_TRUE(output);
  const auto metadata = dcp::DecodeMetadata(MemorySource(output->metadata));
  ASSERT_TRUE(metadata) << metadata.error().ToString();
  EXPECT_EQ(metadata->tensors[0].path, paths[0]);
  EXPECT_EQ(metadata->tensors[1].path, (dcp::Path{"flat.c"}));
}

TEST(DcpSinkTest, NothingAtAll) {
  const auto output = LayoutDcp({}, {.ranks = 1});
  ASSERT_TRUE(output);
  const TestDirectory directory;
  EXPECT_TRUE(Write(*output, {}, directory.path()));
}

TEST(DcpSinkTest, HugeTensorsTakeNoMemory) {
  const std::vector<TensorDecl> tensors = {{"w", DType::kFloat32, {int64_t{1} << 40, 3}},
                                           {"v", DType::kUInt8, {int64_t{1} << 40}}};
  const auto output = LayoutDcp(tensors, {.ranks = 8});
  ASSERT_TRUE(output) << output.error().ToString();
  EXPECT_GT(output->files[7].layout.size, uint64_t{13} << 37);
  size_t literals = 0;
  for (const DcpFile& file : output->files)
    for (const Literal& literal : file.layout.literals) literals += literal.bytes.size();
  EXPECT_LT(literals, 16u * 2000);
}

TEST(DcpSinkTest, RefusesRanks) {
  for (const unsigned ranks : {0u, kMaxDcpRanks + 1}) {
    const auto output = LayoutDcp({}, {.ranks = ranks});
    ASSERT_FALSE(output);
    EXPECT_EQ(output.error().kind, ErrorKind::kUsage);
  }
}

TEST(DcpSinkTest, RefusesWhatDcpCannotHold) {
  const auto error = [](const std::vector<TensorDecl>& tensors, const DcpRequest& request = {}) {
    const auto output = LayoutDcp(tensors, request);
    EXPECT_FALSE(output);
    if (output) return Error{};
    EXPECT_EQ(output.error().kind, ErrorKind::kMapping);
    EXPECT_EQ(output.error().tensor, "w");
    return output.error();
  };
  EXPECT_THAT(error({{"w", DType::kFloat6E2M3x4, {4}}}).found, HasSubstr("float6"));
  EXPECT_THAT(error({{"w", DType::kInt8, {1}}, {"w", DType::kInt8, {2}}}).found,
              HasSubstr("two values"));
  error({{"w", DType::kInt8, {-1, 2}}});
  error({{"w", DType::kInt64, {kHuge, kHuge}}});
  error({{"v", DType::kInt8, {kHuge / 3}}, {"w", DType::kInt8, {kHuge / 3}}});
  const std::vector<DcpObject> long_text = {{"w", std::string(1 << 20, 'x'), {}}};
  error({}, {.objects = long_text});
  const std::vector<DcpObject> objects = {{"w", 3.0, {}}};
  error({{"w", DType::kInt8, {1}}}, {.objects = objects});
}

}  // namespace
}  // namespace reshard
