#include "formats/dcp/dcp_test_support.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <sstream>

namespace reshard::dcp {
namespace {

std::string ReadTestData(std::string_view path) {
  std::ifstream file(fmt::format("{}/{}", RESHARD_TEST_DATA, path), std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string Numbers(std::span<const int64_t> values) {
  return fmt::format("({})", fmt::join(values, ","));
}

std::string ShowPath(const Path& path) {
  std::vector<std::string> keys;
  for (const PathKey& key : path)
    keys.push_back(std::holds_alternative<int64_t>(key)
                       ? fmt::format("int:{}", std::get<int64_t>(key))
                       : fmt::format("str:{}", std::get<std::string>(key)));
  return fmt::format("[{}]", fmt::join(keys, " "));
}

std::string ShowEntry(const Metadata& metadata, uint32_t file, uint64_t offset, uint64_t length) {
  std::string text = fmt::format("{}@{}+{}", metadata.files.at(file), offset, length);
  for (const std::string& transform : metadata.TransformsOf(file, offset)) text += " !" + transform;
  return text;
}

}  // namespace

std::string Fixture(std::string_view name) {
  return ReadTestData(fmt::format("fixtures/{}/ckpt/.metadata", name));
}

Result<Metadata> DecodeText(const std::string& bytes) {
  return DecodeMetadata(MemorySource(bytes, "ckpt/.metadata"));
}

Result<Metadata> DecodeFile(std::string_view name) {
  return DecodeText(ReadTestData(fmt::format("dcp/{}.metadata", name)));
}

std::map<std::string, std::string> Listing(const Metadata& metadata) {
  std::map<std::string, std::string> out;
  for (const TensorRecord& tensor : metadata.tensors) {
    std::string text = fmt::format("tensor {} {} {} {} grad={}\n", tensor.name,
                                   ShowPath(tensor.path), DTypeName(tensor.dtype),
                                   Numbers(tensor.shape), tensor.requires_grad ? "True" : "False");
    for (uint32_t i = 0; i < tensor.chunk_count; ++i) {
      const Chunk& chunk = metadata.chunks.at(tensor.first_chunk + i);
      const BoxView box = metadata.Box(tensor, chunk);
      text += fmt::format("  {} {} {}\n", Numbers(box.start), Numbers(box.extent),
                          ShowEntry(metadata, chunk.file, chunk.offset, chunk.length));
    }
    EXPECT_TRUE(out.emplace(tensor.name, text).second);
  }
  for (const ObjectRecord& object : metadata.objects)
    EXPECT_TRUE(
        out.emplace(object.name,
                    fmt::format("object {} {} {}\n", object.name, ShowPath(object.path),
                                ShowEntry(metadata, object.file, object.offset, object.length)))
            .second);
  return out;
}

std::map<std::string, std::string> ExpectedListing(std::string_view name) {
  std::map<std::string, std::string> out;
  std::istringstream lines(ReadTestData(fmt::format("dcp/{}.txt", name)));
  std::string current;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("  ")) {
      const size_t start = line.find(' ') + 1;
      current = line.substr(start, line.find(" [") - start);
    }
    out[current] += line + "\n";
  }
  return out;
}

}  // namespace reshard::dcp
