#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/endian.h"
#include "formats/torch_save/archive.h"
#include "formats/torch_save/test_support.h"

namespace reshard::torch_save {
namespace {

using ::testing::HasSubstr;

// A legacy file of `object` and the storage "0", which is said to have `numel` elements.
std::string Legacy(const std::string& object, int64_t numel = 4, size_t storage_bytes = 16,
                   const std::string& keys = "]" + Text("0") + "a") {
  std::string file = Pickle("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") +
                     Pickle(Int(1001)) + Pickle("}") + Pickle(object) + Pickle(keys);
  AppendLittle(numel, &file);
  return file + std::string(storage_bytes, 'x');
}

// A tensor of 4 floats whose storage is described by the 6 fields of `id`.
std::string TensorOver(const std::string& id, int64_t size = 4) {
  return "}" + Text("w") + "ctorch._utils\n_rebuild_tensor_v2\n((" + id + "tQ" + Int(0) +
         Tuple({size}) + Tuple({1}) + "\x89}tRs";
}

std::string Id(const std::string& view = "N") {
  return Text("storage") + "ctorch\nFloatStorage\n" + Text("0") + Text("cpu") + Int(4) + view;
}

Error DecodeError(const std::string& bytes) {
  const auto archive = DecodeFile(MemorySource(bytes, "x.pt"));
  EXPECT_FALSE(archive);
  if (archive) return {};
  EXPECT_EQ(archive.error().kind, ErrorKind::kSource);
  return archive.error();
}

TEST(LegacyTest, ReadsAHandMadeFile) {
  const std::string bytes = Legacy(TensorOver(Id()));
  const auto archive = DecodeFile(MemorySource(bytes));
  ASSERT_TRUE(archive) << archive.error().ToString();
  ASSERT_EQ(archive->tensors.size(), 1u);
  EXPECT_EQ(archive->tensors[0].tensor.data_offset, bytes.size() - 16);
}

TEST(LegacyTest, AViewBeginsInItsStorage) {
  const std::string view = Text("view") + Int(1) + Int(2) + "\x87";
  const std::string bytes = Legacy(TensorOver(Id(view), 2));
  const auto archive = DecodeFile(MemorySource(bytes));
  ASSERT_TRUE(archive) << archive.error().ToString();
  EXPECT_EQ(archive->tensors[0].tensor.data_offset, bytes.size() - 12);
  EXPECT_EQ(archive->tensors[0].tensor.storage_bytes, 8u);
  DecodeError(Legacy(TensorOver(Id(view), 3)));
  DecodeError(Legacy(TensorOver(Id(Text("view") + Int(3) + Int(2) + "\x87"), 1)));
}

TEST(LegacyTest, StoragesOfWhatIsNoTensorCountToo) {
  // The only reference is within a tuple, which is a leaf and no tensor.
  const std::string bytes = Legacy("}" + Text("t") + "(" + Id() + "tQ\x85s");
  const auto archive = DecodeFile(MemorySource(bytes));
  ASSERT_TRUE(archive) << archive.error().ToString();
  EXPECT_EQ(archive->unreadable.size(), 1u);
}

TEST(LegacyTest, AListThatHoldsItselfIsWalkedOnce) {
  const std::string self("]q\0h\0a", 6);
  const std::string tuple = "(" + self + "(" + Id() + "tQt";
  const auto archive = DecodeFile(MemorySource(Legacy("}" + Text("t") + tuple + "s")));
  ASSERT_TRUE(archive) << archive.error().ToString();
  EXPECT_EQ(archive->unreadable.size(), 1u);
}

TEST(LegacyTest, RefusesStoragesThatDoNotFitTheirDescription) {
  const std::string object = TensorOver(Id());
  EXPECT_THAT(DecodeError(Legacy(object, 5, 20)).found, HasSubstr("a storage of 5 elements"));
  EXPECT_THAT(DecodeError(Legacy(object, -4)).found, HasSubstr("a storage of -4 elements"));
  EXPECT_THAT(DecodeError(Legacy(object, 4, 15)).found, HasSubstr("ends at byte"));
  EXPECT_THAT(DecodeError(Legacy(object, 4, 17)).found, HasSubstr("1 bytes after the last"));
}

TEST(LegacyTest, RefusesKeysThatDoNotFitTheObject) {
  const std::string object = TensorOver(Id());
  for (const std::string& keys :
       {std::string("]"), "]" + Text("1") + "a", "](" + Text("0") + Text("0") + "e",
        std::string("N"), "]" + Int(0) + "a"})
    EXPECT_THAT(DecodeError(Legacy(object, 4, 16, keys)).found, HasSubstr("storage keys"));
}

TEST(LegacyTest, RefusesTwoDescriptionsOfAStorage) {
  const std::string other =
      Text("storage") + "ctorch\nDoubleStorage\n" + Text("0") + Text("cpu") + Int(4) + "N";
  EXPECT_THAT(DecodeError(Legacy("]((" + Id() + "tQ(" + other + "tQe")).found,
              HasSubstr("two descriptions"));
}

TEST(LegacyTest, EveryTruncationIsAnError) {
  const std::string bytes = TestFile("fixtures/ts_legacy/ckpt/x.pt");
  for (size_t size = 0; size < bytes.size(); ++size) DecodeError(bytes.substr(0, size));
}

TEST(LegacyTest, AFlippedByteDoesNoHarm) {
  const std::string bytes = TestFile("fixtures/ts_legacy/ckpt/x.pt");
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
