#include "formats/pickle/pickle.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "base/endian.h"
#include "formats/pickle/pickle_test_support.h"

namespace reshard::pickle {
namespace {

using namespace std::string_literals;

std::string U32(uint32_t value) {
  std::string out;
  AppendLittle(value, &out);
  return out;
}

std::string U64(uint64_t value) {
  std::string out;
  AppendLittle(value, &out);
  return out;
}

std::string Text(std::string_view text) {
  return "X" + U32(static_cast<uint32_t>(text.size())) + std::string(text);
}

std::string Repeat(std::string_view text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

// The value in `show` notation, or the error.
std::string ShowPickle(const std::string& bytes, const Limits& limits = {}) {
  auto document = Decode(MemorySource(bytes), 0, limits);
  return document ? Show(document->root()) : document.error().ToString();
}

// True for a refusal that blames the source.
bool IsRefused(const std::string& bytes, const Limits& limits = {}) {
  auto document = Decode(MemorySource(bytes), 0, limits);
  return !document && document.error().kind == ErrorKind::kSource && document.error().offset;
}

class PythonPicklesTest : public testing::TestWithParam<std::string> {};

TEST_P(PythonPicklesTest, DecodeAsPythonMeantThem) {
  const std::string bytes = ReadTestData(fmt::format("pickle/{}.pkl", GetParam()));
  const MemorySource source(bytes);
  uint64_t offset = 0;
  for (const std::string& line : ReadTestLines(fmt::format("pickle/{}.txt", GetParam()))) {
    auto document = Decode(source, offset);
    ASSERT_TRUE(document) << line << "\n" << document.error().ToString();
    ASSERT_EQ(Show(document->root()), line);
    offset = document->end();
  }
  EXPECT_EQ(offset, bytes.size());
}

INSTANTIATE_TEST_SUITE_P(Protocols, PythonPicklesTest,
                         testing::Values("protocol2", "protocol3", "protocol4", "protocol5",
                                         "handmade", "graph"));

TEST(PickleTest, PersistentIdsAndGlobalsAreInert) {
  EXPECT_EQ(ShowPickle("\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nK\x05tQ."s),
            "pid ('storage', <torch.FloatStorage>, 5)");
  EXPECT_EQ(ShowPickle("\x80\x02"
                       "cos\nsystem\nX\x04\0\0\0true\x85R."s),
            "obj(<os.system>, ('true'))");
}

TEST(PickleTest, TextThatIsNotUtf8IsBytes) {
  EXPECT_EQ(ShowPickle("\x80\x02U\x02\xff\xfe."s), "bfffe");
  EXPECT_EQ(ShowPickle("\x80\x02X\x03\0\0\0\xed\xa0\x80."s), "beda080");  // a lone surrogate
}

TEST(PickleTest, FindTakesTheLastOfTwoEqualKeys) {
  const std::string bytes = "}(" + Text("k") + "K\x01" + Text("k") + "K\x02u.";
  auto document = Decode(MemorySource(bytes));
  ASSERT_TRUE(document);
  ASSERT_NE(document->root().Find("k"), nullptr);
  EXPECT_EQ(document->root().Find("k")->as_int(), 2);
  EXPECT_EQ(document->root().Find("other"), nullptr);
}

TEST(PickleTest, AListMayHoldItself) {
  auto document = Decode(MemorySource("\x80\x04]\x94h\0a."s));
  ASSERT_TRUE(document);
  const Value& list = document->root();
  ASSERT_EQ(list.items().size(), 1u);
  EXPECT_EQ(list.items()[0].items().data(), list.items().data());
}

TEST(PickleTest, EndLiesBehindStop) {
  auto document = Decode(MemorySource("xxK\x07.yy"s), 2);
  ASSERT_TRUE(document);
  EXPECT_EQ(document->root().as_int(), 7);
  EXPECT_EQ(document->end(), 5u);
}

// Values and strings on both sides of every edge of the window, one of them larger than it.
TEST(PickleTest, ReadsThroughWindows) {
  std::string bytes = "\x80\x04](";
  std::vector<std::string> expected;
  for (size_t i = 0; i < 3000; ++i) {
    const std::string text(i == 1500 ? 700000 : i * 7 % 611, static_cast<char>('a' + i % 26));
    expected.push_back(text);
    bytes += text.size() < 256 ? "\x8c"s + static_cast<char>(text.size()) + text : Text(text);
    bytes += "J" + U32(static_cast<uint32_t>(i));
  }
  bytes += "e.";
  auto document = Decode(MemorySource(bytes));
  ASSERT_TRUE(document) << document.error().ToString();
  const auto items = document->root().items();
  ASSERT_EQ(items.size(), 2 * expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(items[2 * i].text(), expected[i]);
    ASSERT_EQ(items[2 * i + 1].as_int(), static_cast<int64_t>(i));
  }
}

TEST(PickleTest, OpcodesMayLieAcrossTheEdgeOfAWindow) {
  for (size_t size = (256 << 10) - 320; size < (256 << 10) + 10; ++size) {
    const std::string bytes = Text(std::string(size, 'x')) + "0" +
                              "ctorch.nn\nLinear\n\x8c\x03"
                              "abcJ\x04\x03\x02\x01\x87." +
                              std::string(400, 'z');
    auto document = Decode(MemorySource(bytes));
    ASSERT_TRUE(document) << size;
    const auto items = document->root().items();
    ASSERT_EQ(items.size(), 3u);
    EXPECT_TRUE(items[0].IsGlobal("torch.nn", "Linear"));
    EXPECT_EQ(items[1].text(), "abc");
    EXPECT_EQ(items[2].as_int(), 0x01020304);
  }
}

TEST(PickleDamageTest, Empty) { EXPECT_TRUE(IsRefused("")); }

TEST(PickleDamageTest, TruncatedAnywhere) {
  const std::string bytes = ReadTestData("fixtures/meta_2.9/ckpt/.metadata");
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_TRUE(IsRefused(bytes.substr(0, size))) << size;
  EXPECT_FALSE(IsRefused(bytes));
}

TEST(PickleDamageTest, LengthsPastTheEnd) {
  for (const std::string& op :
       {"X" + U32(0xffffffff), "T" + U32(0xffffffff), "B" + U32(100), "\x8d" + U64(~uint64_t{0}),
        "\x8e" + U64(uint64_t{1} << 62), "\x96" + U64(1000), "\x8b" + U32(0x80000000), "\x8c\xff"s,
        "\x8a\xff"s})
    EXPECT_TRUE(IsRefused("\x80\x04" + op + "abc."));
}

TEST(PickleDamageTest, StringLimit) {
  const std::string bytes = Text(std::string(1000, 'x')) + ".";
  EXPECT_TRUE(IsRefused(bytes, {.max_string = 999}));
  EXPECT_FALSE(IsRefused(bytes, {.max_string = 1000}));
}

TEST(PickleDamageTest, TooDeep) {
  EXPECT_TRUE(IsRefused("N" + Repeat("\x85", 5000) + "."));
  EXPECT_TRUE(IsRefused(Repeat("(", 5000) + "N."));
  EXPECT_TRUE(IsRefused(Repeat("]", 5000) + Repeat("a", 4999) + "."));
  EXPECT_TRUE(IsRefused(Repeat("}N", 5000) + "N" + Repeat("s", 5000) + "."));
  EXPECT_TRUE(IsRefused(Repeat("ca\nb\n", 5000) + ")" + Repeat("\x85", 4) + Repeat("R\x85", 5000)));
  EXPECT_TRUE(IsRefused("N" + Repeat("Q", 5000) + "."));
  EXPECT_FALSE(IsRefused("N" + Repeat("\x85", 1000) + "."));
  EXPECT_TRUE(IsRefused("N" + Repeat("\x85", 1001) + "."));
}

TEST(PickleDamageTest, MemoSlotsThatAreNotSet) {
  EXPECT_TRUE(IsRefused("h\x00."s));
  EXPECT_TRUE(IsRefused("Nq\x00h\x01."s));
  EXPECT_TRUE(IsRefused("Nj" + U32(0xfffffff0) + "."));
  EXPECT_TRUE(IsRefused("Nr" + U32(0xfffffff0) + "."));
  EXPECT_TRUE(IsRefused(Repeat("N0", 300) + "j" + U32(300) + "."));
}

TEST(PickleDamageTest, MemoryLimit) {
  const Limits limits = {.max_memory = 64 << 10};
  EXPECT_TRUE(IsRefused(Repeat("ca\nb\n)\x81", 1000) + Repeat("0", 999) + ".", limits));
  EXPECT_TRUE(IsRefused(Repeat("N", 10000) + Repeat("0", 9999) + ".", limits));
  EXPECT_TRUE(IsRefused(Repeat("]", 4000) + Repeat("0", 3999) + ".", limits));
  EXPECT_TRUE(IsRefused(Text(std::string(65 << 10, 'x')) + ".", limits));
  EXPECT_TRUE(IsRefused(
      Repeat("\x85", 0) + "N" + Repeat("\x94", 10000) +
          [] {
            std::string gets;
            for (uint32_t i = 300; i < 9000; ++i) gets += "j" + U32(i) + "0";
            return gets;
          }() +
          ".",
      limits));
}

TEST(PickleDamageTest, StacksThatRunOut) {
  for (const char* ops :
       {"0.",    "1.",     "2.", "\x85.", "N\x86.", "t.",  "Na.",   "]a.",     "(e.",   "(u.",
        "}(Nu.", "}Ns.",   "R.", "NR.",   "b.",     "Nb.", "\x81.", "\x92.",   "\x93.", "Q.",
        "\x94.", "q\x01.", ".",  "(.",    "N(.",    "NN.", "N(0.",  "(N\x86t."})
    EXPECT_TRUE(IsRefused(ops)) << ops;
}

TEST(PickleDamageTest, WrongKinds) {
  for (const char* ops :
       {"NNa.", "NNNs.", "NNb.", "NNR.", "N]\x81.", "N)N\x92.", "NN\x93.", "N(Ne.", ")(Nu.",
        "]N\x94"
        "b."})
    EXPECT_TRUE(IsRefused(ops)) << ops;
}

TEST(PickleDamageTest, OpcodesWithoutAPlace) {
  for (const char* ops : {"I1\n.", "F1\n.", "S'a'\n.", "V a\n.", "L1L\n.", "P1\n.", "(i a\nb\n.",
                          "(o.", "\x82\x01.", "\x83\x01\x01.", "\x84\x01\x01\x01\x01.", "\x97.",
                          "\x98.", "d.", "l.", "p0\n.", "g0\n.", "\xff."})
    EXPECT_TRUE(IsRefused(ops)) << ops;
  EXPECT_TRUE(IsRefused("\x80\x06N."));
  EXPECT_TRUE(IsRefused("cname without an end"));
  EXPECT_TRUE(IsRefused("c" + std::string(10000, 'a') + "\nb\n."));
}

TEST(PickleDamageTest, ErrorsNameTheOffsetInTheFile) {
  const std::string bytes = "0123456789NN\xff.";
  const MemorySource file(bytes, "file");
  const SubSource part(file, 10, 100);
  auto document = Decode(part);
  ASSERT_FALSE(document);
  EXPECT_EQ(document.error().file, "file");
  EXPECT_EQ(document.error().offset, 12u);
}

}  // namespace
}  // namespace reshard::pickle
