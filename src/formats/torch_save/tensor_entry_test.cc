#include "formats/torch_save/tensor_entry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <atomic>
#include <limits>
#include <string>

#include "formats/torch_save/test_support.h"

namespace reshard::torch_save {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(const ByteSource& base) : base_(base) {}
  uint64_t size() const override { return base_.size(); }
  const std::string& name() const override { return base_.name(); }
  Result<> ReadAt(uint64_t offset, std::span<std::byte> out) const override {
    ++reads;
    return base_.ReadAt(offset, out);
  }
  mutable std::atomic<int> reads = 0;

 private:
  const ByteSource& base_;
};

std::vector<int64_t> Ints(simdjson::dom::element list) {
  std::vector<int64_t> out;
  for (const int64_t number : list.get_array()) out.push_back(number);
  return out;
}

Error DecodeError(const std::string& bytes) {
  const MemorySource source(bytes, "x.distcp");
  const auto entry = DecodeTensorEntry(source);
  EXPECT_FALSE(entry);
  if (entry) return {};
  EXPECT_EQ(entry.error().kind, ErrorKind::kSource);
  EXPECT_EQ(entry.error().file, "x.distcp");
  return entry.error();
}

std::string OneTensor(const TensorPickle& tensor, size_t storage_bytes = 16) {
  return TorchZip(Pickle(tensor.Body()), std::string(storage_bytes, 'x'));
}

// Written by torch: tests/data/torch_save/make.py.
TEST(TensorEntryTest, ReadsWhatTorchWrites) {
  simdjson::dom::parser parser;
  const simdjson::padded_string text(TestFile("torch_save/entries.json"));
  size_t checked = 0;
  for (const auto [key, expected] : simdjson::dom::object(parser.parse(text))) {
    SCOPED_TRACE(key);
    // At an odd place in a larger file, as DCP has it.
    const std::string entry_bytes = TestFile("torch_save/entries/" + std::string(key) + ".zip");
    const std::string file_bytes = "1234567" + entry_bytes + "89";
    const MemorySource file(file_bytes, "f");
    const SubSource entry(file, 7, entry_bytes.size());
    const auto tensor = DecodeTensorEntry(entry);
    ASSERT_TRUE(tensor) << tensor.error().ToString();
    EXPECT_EQ(DTypeName(tensor->dtype), std::string_view(expected["dtype"]));
    EXPECT_EQ(tensor->shape, Ints(expected["shape"]));
    EXPECT_EQ(tensor->strides, Ints(expected["strides"]));
    EXPECT_EQ(tensor->storage_offset, int64_t(expected["storage_offset"]));
    EXPECT_EQ(tensor->conjugate, key == "conjugate");
    EXPECT_EQ(tensor->negate, key == "negated");
    EXPECT_EQ(Gather(entry, *tensor), FromHex(expected["hex"]));
    ++checked;
  }
  EXPECT_EQ(checked, 12u);
}

TEST(TensorEntryTest, TakesTwoReadsAndOneForASmallEntry) {
  for (const auto& [name, reads] : {std::pair{"plain", 1}, {"large", 2}}) {
    const std::string bytes = TestFile(std::string("torch_save/entries/") + name + ".zip");
    const MemorySource memory(bytes);
    const CountingSource source(memory);
    ASSERT_TRUE(DecodeTensorEntry(source));
    EXPECT_EQ(source.reads, reads) << name;
  }
}

TEST(TensorEntryTest, NamesWhatIsNoDenseTensor) {
  const auto found = [](const char* name) {
    return DecodeError(TestFile(std::string("torch_save/entries/bad_") + name + ".zip")).found;
  };
  EXPECT_EQ(found("quantized"), "a quantized tensor");
  EXPECT_EQ(found("sparse"), "a sparse tensor");
  EXPECT_EQ(found("meta"), "a meta tensor, which has no data");
  EXPECT_EQ(found("list"), "[a tensor]");
}

TEST(TensorEntryTest, ByteOrder) {
  const std::string pickle = Pickle(TensorPickle{}.Body());
  const auto decode = [&](const std::string& order) {
    const std::string bytes =
        Zip({{"data.pkl", pickle}, {"data/0", std::string(16, 'x')}, {"byteorder", order}});
    return DecodeTensorEntry(MemorySource(bytes));
  };
  EXPECT_FALSE(decode("little")->big_endian);
  EXPECT_TRUE(decode("big")->big_endian);
  EXPECT_FALSE(decode("middle"));
}

TEST(TensorEntryTest, EveryTruncationIsAnError) {
  for (const char* name : {"plain", "large"}) {
    const std::string bytes = TestFile(std::string("torch_save/entries/") + name + ".zip");
    for (size_t size = 0; size < bytes.size(); ++size) DecodeError(bytes.substr(0, size));
  }
}

TEST(TensorEntryTest, AFlippedByteDoesNoHarm) {
  const std::string bytes = TestFile("torch_save/entries/slice.zip");
  size_t refused = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (const int mask : {0x01, 0x80, 0xff}) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ mask);
      const MemorySource source(changed);
      const auto tensor = DecodeTensorEntry(source);
      if (tensor)
        Gather(source, *tensor);
      else
        ++refused;
    }
  }
  EXPECT_GT(refused, 0u);
}

TEST(TensorEntryTest, AFlippedByteOfThePickleIsFoundByItsCrc) {
  std::string bytes = TestFile("torch_save/entries/plain.zip");
  const size_t shape = bytes.find("K\4K\6\x86");
  ASSERT_NE(shape, std::string::npos);
  std::swap(bytes[shape + 1], bytes[shape + 3]);  // 4 x 6 becomes 6 x 4: as good a tensor
  EXPECT_THAT(DecodeError(bytes).found, HasSubstr("CRC-32"));
}

TEST(TensorEntryTest, AcceptsAHandMadeEntry) {
  const auto tensor = DecodeTensorEntry(MemorySource(OneTensor({})));
  ASSERT_TRUE(tensor) << tensor.error().ToString();
  EXPECT_THAT(tensor->shape, ElementsAre(2, 2));
  EXPECT_EQ(tensor->storage_bytes, 16u);
}

TEST(TensorEntryTest, RefusesElementsBeyondTheStorage) {
  EXPECT_THAT(DecodeError(OneTensor({.offset = 1})).found, HasSubstr("in a storage of 16 bytes"));
  EXPECT_THAT(DecodeError(OneTensor({.strides = {3, 1}})).found, HasSubstr("strides [3, 1]"));
  EXPECT_THAT(DecodeError(OneTensor({.shape = {3, 2}})).found, HasSubstr("shape [3, 2]"));
}

TEST(TensorEntryTest, RefusesNumbersThatOverflow) {
  DecodeError(OneTensor({.strides = {kHuge, kHuge}}));
  DecodeError(OneTensor({.offset = kHuge}));
  DecodeError(OneTensor({.shape = {kHuge, kHuge}, .strides = {0, 0}}));
  DecodeError(OneTensor({.shape = {kHuge / 2}, .strides = {0}}));
  DecodeError(OneTensor({.numel = kHuge}));
}

TEST(TensorEntryTest, RefusesNegativeNumbers) {
  DecodeError(OneTensor({.numel = -4}));
  DecodeError(OneTensor({.offset = -1}));
  DecodeError(OneTensor({.shape = {-2, 2}}));
  DecodeError(OneTensor({.strides = {-2, 1}}));
}

TEST(TensorEntryTest, RefusesAShapeAndStridesOfDifferentLength) {
  EXPECT_THAT(DecodeError(OneTensor({.strides = {1}})).found, HasSubstr("2 dimensions has 1"));
}

TEST(TensorEntryTest, RefusesARecordOfAnotherSizeThanThePickleSays) {
  EXPECT_THAT(DecodeError(OneTensor({}, 15)).found, HasSubstr("has 15 bytes"));
  EXPECT_THAT(DecodeError(OneTensor({}, 400)).found, HasSubstr("has 400 bytes"));
  EXPECT_THAT(DecodeError(Zip({{"data.pkl", Pickle(TensorPickle{}.Body())}})).found,
              HasSubstr("no record 'archive/data/0'"));
}

TEST(TensorEntryTest, NamesAnUnknownStorageClass) {
  EXPECT_THAT(DecodeError(OneTensor({.storage_class = "torch\nOddStorage"})).found,
              HasSubstr("torch.OddStorage"));
  EXPECT_THAT(DecodeError(OneTensor({.storage_class = "os\nFloatStorage"})).found,
              HasSubstr("os.FloatStorage"));
}

TEST(TensorEntryTest, RefusesUnknownMetadata) {
  const auto with = [](const std::string& key) {
    return OneTensor({.metadata = "}" + Text(key) + "\x88s"});
  };
  EXPECT_TRUE(DecodeTensorEntry(MemorySource(with("neg")))->negate);
  EXPECT_THAT(DecodeError(with("inverse")).found, HasSubstr("metadata"));
}

TEST(TensorEntryTest, RefusesWhatIsNoTorchSaveZip) {
  EXPECT_THAT(DecodeError(TestFile("zip/stored.zip")).found, HasSubstr("without 'a/data.pkl'"));
  EXPECT_THAT(DecodeError(Zip({})).found, HasSubstr("not in a folder"));
  EXPECT_THAT(DecodeError(Zip({{"data.pkl", Pickle("N")}, {"version", "11\n"}})).found,
              HasSubstr("unknown version"));
  EXPECT_THAT(DecodeError(Zip({{"data.pkl", Pickle("N")}, {"constants.pkl", Pickle("N")}})).found,
              HasSubstr("TorchScript"));
  EXPECT_THAT(DecodeError(TorchZip(Pickle("N") + "more", "")).found, HasSubstr("after the pickle"));
  EXPECT_EQ(DecodeError(TorchZip(Pickle("N"), "")).found, "None");
}

}  // namespace
}  // namespace reshard::torch_save
