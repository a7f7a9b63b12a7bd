#include "formats/torch_save/archive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "base/endian.h"
#include "formats/torch_save/test_support.h"

namespace reshard::torch_save {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Archive Decode(const std::string& bytes) {
  auto archive = DecodeFile(MemorySource(bytes, "x.pt"));
  EXPECT_TRUE(archive) << archive.error().ToString();
  return archive ? std::move(*archive) : Archive{};
}

Error DecodeError(const std::string& bytes) {
  const auto archive = DecodeFile(MemorySource(bytes, "x.pt"));
  EXPECT_FALSE(archive);
  if (archive) return {};
  EXPECT_EQ(archive.error().kind, ErrorKind::kSource);
  EXPECT_EQ(archive.error().file, "x.pt");
  return archive.error();
}

// The data of each tensor of a golden.safetensors, which torch and safetensors wrote.
std::map<std::string, std::string> Golden(const std::string& fixture) {
  const std::string file = TestFile("fixtures/" + fixture + "/golden.safetensors");
  const auto length = LoadLittle<uint64_t>(file.data());
  simdjson::dom::parser parser;
  const simdjson::padded_string header(file.substr(8, length));
  std::map<std::string, std::string> out;
  for (const auto [name, entry] : simdjson::dom::object(parser.parse(header))) {
    if (name == "__metadata__") continue;
    const uint64_t begin = entry["data_offsets"].at(0);
    const uint64_t end = entry["data_offsets"].at(1);
    out[std::string(name)] = file.substr(8 + length + begin, end - begin);
  }
  return out;
}

// Compares with golden.json, which torch wrote: dtype and shape of each tensor, names of objects.
void ExpectGolden(const std::string& fixture, const std::string& checkpoint) {
  const std::string bytes = TestFile("fixtures/" + fixture + "/ckpt/" + checkpoint);
  const Archive archive = Decode(bytes);
  const auto golden = Golden(fixture);
  simdjson::dom::parser parser;
  const simdjson::padded_string text(TestFile("fixtures/" + fixture + "/golden.json"));
  size_t tensors = 0, objects = 0;
  for (const auto [key, expected] : simdjson::dom::object(parser.parse(text))) {
    SCOPED_TRACE(key);
    const std::string name(key);
    const auto named = [&](const auto& leaf) { return leaf.name == name; };
    if (std::string_view(expected["kind"]) != "tensor") {
      EXPECT_TRUE(std::ranges::any_of(archive.objects, named));
      ++objects;
      continue;
    }
    ++tensors;
    const auto leaf = std::ranges::find_if(archive.tensors, named);
    ASSERT_NE(leaf, archive.tensors.end());
    EXPECT_EQ(DTypeName(leaf->tensor.dtype), std::string_view(expected["dtype"]));
    Shape shape;
    for (const int64_t dim : expected["shape"].get_array()) shape.push_back(dim);
    EXPECT_EQ(leaf->tensor.shape, shape);
    EXPECT_EQ(Gather(MemorySource(bytes), leaf->tensor), golden.at(name));
  }
  EXPECT_EQ(archive.tensors.size(), tensors);
  EXPECT_EQ(archive.objects.size(), objects);
  EXPECT_GT(tensors, 3u);
}

TEST(ArchiveTest, ReadsAZip) { ExpectGolden("ts_zip", "x.pt"); }
TEST(ArchiveTest, ReadsALegacyFile) { ExpectGolden("ts_legacy", "x.pt"); }
TEST(ArchiveTest, ReadsAMegatronFile) { ExpectGolden("ts_megatron", "model_optim_rng.pt"); }

TEST(ArchiveTest, SharedStoragesAreOnePlace) {
  for (const char* fixture : {"ts_zip", "ts_legacy"}) {
    const Archive archive = Decode(TestFile(std::string("fixtures/") + fixture + "/ckpt/x.pt"));
    std::map<std::string, TensorEntry> tensors;
    for (const TensorLeaf& leaf : archive.tensors) tensors[leaf.name] = leaf.tensor;
    EXPECT_EQ(tensors["w_row"].data_offset, tensors["w"].data_offset);
    EXPECT_EQ(tensors["w_row"].storage_offset, 4);
    EXPECT_THAT(tensors["w_t"].strides, ElementsAre(1, 4));
    EXPECT_EQ(tensors["tied"].data_offset, tensors["w"].data_offset);
    EXPECT_NE(tensors["p"].data_offset, tensors["w"].data_offset);
  }
}

TEST(ArchiveTest, TellsTheContainer) {
  EXPECT_EQ(Decode(TestFile("fixtures/ts_zip/ckpt/x.pt")).container, Container::kZip);
  EXPECT_EQ(Decode(TestFile("fixtures/ts_legacy/ckpt/x.pt")).container, Container::kLegacy);
}

// tests/data/torch_save/make.py has the values, and torch's own flattening made the names.
TEST(ArchiveTest, FlattensAsDcpDoes) {
  const Archive archive = Decode(TestFile("torch_save/leaves.pt"));
  std::map<std::string, std::string> objects;
  for (const ObjectLeaf& leaf : archive.objects) objects[leaf.name] = leaf.summary;
  const std::map<std::string, std::string> expected = {
      {"lr", "3e-05"},
      {"one", "1.0"},
      {"step", "10"},
      {"name", "\"adamw\""},
      {"control", "\"a\\x1b[31mb\""},
      {"long", "\"" + std::string(60, 'x') + "...\""},
      {"none", "None"},
      {"flag", "True"},
      {"plain", "[0, 1, ... 40 items]"},
      {"nested plain", "[[1, 2], [\"a\"]]"},
      {"args", "argparse.Namespace(2 fields)"},
      {"dtype", "torch.bfloat16"},
      {"color", "__main__.Color(1)"},
      {"bytes", "3 bytes"},
      {"list.0.a", "1"},
      {"list.3", "5"},
      {"counter.a", "2"},
      {"counter.b", "1"},
      {"default.k", "1"},
      {"7.None", "1"},
      {"7.True", "2"},
      {"7.2.5", "3"},
      {"7.-1", "4"},
  };
  EXPECT_EQ(objects, expected);

  std::map<std::string, std::string> unreadable;
  for (const UnreadableLeaf& leaf : archive.unreadable) unreadable[leaf.name] = leaf.what;
  const std::map<std::string, std::string> expected_unreadable = {
      {"tuple", "a tuple with tensors in it"},
      {"quantized", "a quantized tensor"},
      {"sparse", "a sparse tensor"},
      {"meta", "a meta tensor, which has no data"},
  };
  EXPECT_EQ(unreadable, expected_unreadable);

  std::map<std::string, Path> tensors;
  for (const TensorLeaf& leaf : archive.tensors) tensors[leaf.name] = leaf.path;
  const std::map<std::string, Path> expected_tensors = {
      {"list.1", {"list", 1}},
      {"list.2.0", {"list", 2, 0}},
      {"ordered.x", {"ordered", "x"}},
      {"tensor", {"tensor"}},
  };
  EXPECT_EQ(tensors, expected_tensors);

  std::set<std::string> names;
  for (const auto& [name, summary] : objects) names.insert(name);
  for (const auto& [name, what] : unreadable) names.insert(name);
  for (const auto& [name, path] : tensors) names.insert(name);
  std::set<std::string> names_by_torch;
  simdjson::dom::parser parser;
  const simdjson::padded_string text(TestFile("torch_save/leaves.json"));
  for (const simdjson::dom::element name : parser.parse(text).get_array())
    names_by_torch.emplace(std::string_view(name));
  EXPECT_EQ(names, names_by_torch);
}

TEST(ArchiveTest, ARootThatIsNoMappingIsOneLeaf) {
  const Archive tensor = Decode(TestFile("torch_save/entries/plain.zip"));
  ASSERT_EQ(tensor.tensors.size(), 1u);
  EXPECT_EQ(tensor.tensors[0].name, "tensor");
  EXPECT_THAT(tensor.tensors[0].path, ElementsAre(PathPart("tensor")));
  const Archive object = Decode(TorchZip(Pickle(Int(5)), ""));
  ASSERT_EQ(object.objects.size(), 1u);
  EXPECT_EQ(object.objects[0].name, "object");
  EXPECT_EQ(object.objects[0].summary, "5");
}

// What `pickle`, as the value of "w" in a state dict over one storage of 16 bytes, is said to be.
std::string Unreadable(const std::string& pickle) {
  const Archive archive =
      Decode(TorchZip(Pickle("}" + Text("w") + pickle + "s"), std::string(16, 'x')));
  EXPECT_TRUE(archive.objects.empty());
  return archive.unreadable.size() == 1 ? archive.unreadable[0].what : "none";
}

TEST(ArchiveTest, AClassThatWrapsTensorsIsNoObject) {
  const std::string tensor = TensorPickle{}.Body();
  const std::string from_type = "ctorch._tensor\n_rebuild_from_type_v2\n(";
  const std::string wrapper = "ctorch._utils\n_rebuild_wrapper_subclass\n";
  EXPECT_EQ(Unreadable(from_type + wrapper + "cmy.own\nWrapped\n" + ")" + "}" + Text("inner") +
                       tensor + "stR"),
            "a tensor of the class my.own.Wrapped");
  // A subclass over a dense tensor is read, unless more tensors hang on it.
  const std::string dense = "ctorch._utils\n_rebuild_tensor_v2\n";
  const std::string args = tensor.substr(dense.size(), tensor.size() - dense.size() - 1);
  ASSERT_EQ(tensor, dense + args + "R");
  const std::string subclass = from_type + dense + "cmy.own\nScaled\n" + args;
  EXPECT_EQ(Unreadable(subclass + "}tR"), "none");
  EXPECT_EQ(Unreadable(subclass + "}" + Text("scale") + tensor + "stR"),
            "a tensor of the class my.own.Scaled with other tensors among its attributes");
}

TEST(ArchiveTest, WhatHoldsTensorsIsNoObject) {
  const std::string tensor = TensorPickle{}.Body();
  EXPECT_EQ(Unreadable("(" + Int(1) + "(" + tensor + "tt"), "a tuple with tensors in it");
  EXPECT_EQ(Unreadable("](" + Int(1) + "(" + tensor + "te"), "a list with tensors in it");
  EXPECT_EQ(Unreadable("cmy.own\nEma\n)R}" + Text("shadow") + tensor + "sb"),
            "an object of the class my.own.Ema with tensors in it");
  // A list that holds itself is walked once.
  EXPECT_EQ(Unreadable(std::string("]q\0h\0a", 6) + "(" + tensor + "t\x86"),
            "a tuple with tensors in it");
  const std::string plain = std::string("]q\0h\0a", 6) + Int(1) + "\x86";
  EXPECT_EQ(Decode(TorchZip(Pickle("}" + Text("w") + plain + "s"), "")).objects.size(), 1u);
}

TEST(ArchiveTest, RefusesTwoLeavesOfOneName) {
  const Error error = DecodeError(TorchZip(
      Pickle("}(" + Text("a.b") + Int(1) + Text("a") + "}" + Text("b") + Int(2) + "su"), ""));
  EXPECT_EQ(error.tensor, "a.b");
}

TEST(ArchiveTest, NamesTheTensorAtFault) {
  const auto with = [](const TensorPickle& tensor) {
    return TorchZip(Pickle("}" + Text("w") + tensor.Body() + "s"), std::string(16, 'x'));
  };
  EXPECT_EQ(Decode(with({})).tensors.size(), 1u);
  EXPECT_EQ(DecodeError(with({.strides = {9, 9}})).tensor, "w");
  EXPECT_THAT(DecodeError(with({.storage_class = "a\nB"})).found, HasSubstr("a.B"));
}

TEST(ArchiveTest, RefusesAPersistentIdThatIsNoStorage) {
  const std::string rebuild = "ctorch._utils\n_rebuild_tensor_v2\n(";
  const std::string rest = Int(0) + ")" + ")" + "\x89" + "}tR";
  for (const std::string& id : {"(" + Text("module") + "tQ", Text("0") + "Q", Int(3)}) {
    const std::string pickle = Pickle("}" + Text("w") + rebuild + id + rest + "s");
    EXPECT_THAT(DecodeError(TorchZip(pickle, "")).found, StartsWith("a tensor's storage is"));
  }
}

TEST(ArchiveTest, ReadsAnOrderedDictOfPython2) {
  const Archive archive = Decode(
      TorchZip(Pickle("ccollections\nOrderedDict\n(](](" + Text("a") + Int(1) + "eetR"), ""));
  ASSERT_EQ(archive.objects.size(), 1u);
  EXPECT_EQ(archive.objects[0].name, "a");
}

TEST(ArchiveTest, SaysWhatIsNoTorchSaveFile) {
  EXPECT_THAT(DecodeError("").found, HasSubstr("did not write"));
  EXPECT_THAT(DecodeError("{\"a\": 1}").found, HasSubstr("did not write"));
  EXPECT_THAT(DecodeError(Pickle("N")).found, HasSubstr("did not write"));
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  EXPECT_THAT(DecodeError(tar).found, StartsWith("a tar"));
}

TEST(ArchiveTest, EveryTruncationIsAnError) {
  const std::string bytes = TestFile("fixtures/ts_zip/ckpt/x.pt");
  for (size_t size = 0; size < bytes.size(); ++size) DecodeError(bytes.substr(0, size));
}

TEST(ArchiveTest, AFlippedByteDoesNoHarm) {
  const std::string bytes = TestFile("fixtures/ts_zip/ckpt/x.pt");
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int mask : {0x01, 0x80, 0xff}) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ mask);
      const MemorySource source(changed);
      const auto archive = DecodeFile(source);
      if (!archive) continue;
      for (const TensorLeaf& leaf : archive->tensors) Gather(source, leaf.tensor);
    }
  }
}

}  // namespace
}  // namespace reshard::torch_save
