#include "engine/shard_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine_test_support.h"
#include "engine/file_job.h"
#include "io/io_test_support.h"
#include "plan/planner.h"

namespace reshard {
namespace {

using testing::ElementsAre;
using testing::Pair;

FilePlan FileOf(std::string path, const std::string& header,
                const std::vector<NamedView>& tensors) {
  FileLayout layout{.size = header.size(), .literals = {{0, header}}};
  FileContent content;
  for (size_t i = 0; i < tensors.size(); ++i) {
    layout.slots.push_back(layout.size);
    layout.size += Slot{.view = tensors[i].view}.byte_size();
    content.push_back(i);
  }
  return FillSlots(std::move(path), std::move(layout), content, tensors);
}

// Three processes, each a file of the source: a tensor cut into a grid, one of several blocks with
// strided memory, and one that has a single owner and is in two slots.
class ShardWriterTest : public testing::Test {
 protected:
  static constexpr uint32_t kProcesses = 3;

  void SetUp() override {
    std::vector<float> values(60 * 50);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 7;
    values[7] = 1e9f;
    source_.Add("grid", DType::kFloat32, {60, 50}, BytesOfValues(values),
                {{.start = {0, 0}, .extent = {20, 50}},
                 {.start = {20, 0}, .extent = {40, 30}, .file = 1},
                 {.start = {20, 30}, .extent = {40, 20}, .transposed = true, .file = 2}});
    source_.Add("long", DType::kInt8, {5, 2'000'000}, Noise(10'000'000, 1),
                {{.start = {0, 0}, .extent = {3, 2'000'000}, .file = 2},
                 {.start = {3, 0}, .extent = {2, 2'000'000}, .spread = 2, .file = 0}});
    source_.Add("one", DType::kInt16, {4, 6}, Noise(48, 2),
                {{.start = {0, 0}, .extent = {4, 6}, .file = 1}});
    source_.Open();
    const View grid = source_.Of("grid"), one = source_.Of("one");
    plan_.files.push_back(FileOf(
        "a", "header",
        {{"narrow", View::Cast(grid, DType::kFloat16).value()},
         {"turned", View::Permute(grid, {1, 0}).value()},
         {"both", View::Concat({one, one}, 1).value()}}));
    plan_.files.push_back(FileOf(
        "b", "",
        {{"padded", View::Concat({one, View::Fill(DType::kInt16, {4, 2}, 0).value()}, 1).value()},
         {"long", source_.Of("long")}}));
    for (const FilePlan& file : plan_.files) {
      std::string bytes(file.size, '\0');
      for (const Literal& literal : file.literals)
        bytes.replace(literal.offset, literal.bytes.size(), literal.bytes);
      PutBytes(FileJob::StagedName(directory_.path() / file.path), bytes);
    }
  }

  std::unique_ptr<ShardWriter> WriterOf(uint32_t process) {
    return *ShardWriter::Make(plan_, source_, process, directory_.path());
  }

  std::vector<uint32_t> ChunksOfProcess(uint32_t process) {
    std::vector<uint32_t> chunks;
    for (const Tensor& tensor : source_.catalog().tensors())
      for (uint32_t i = 0; i < tensor.chunk_count; ++i)
        if (source_.catalog().chunks(tensor)[i].file == process)
          chunks.push_back(tensor.first_chunk + i);
    return chunks;
  }

  TestDirectory directory_;
  FakeSource source_;
  Plan plan_;
  Reporter reporter_;
};

// Progress of one process ends at what that process writes.
class Watcher final : public Reporter {
 public:
  void OnProgress(const Progress& progress) override { last = progress; }
  Progress last;
};

TEST_F(ShardWriterTest, ProcessesTogetherWriteThePlan) {
  uint64_t written = 0;
  for (uint32_t process = 0; process < kProcesses; ++process) {
    const auto writer = WriterOf(process);
    Watcher watcher;
    for (uint32_t chunk : ChunksOfProcess(process))
      ASSERT_TRUE(writer->Write(std::vector{chunk}, watcher, {.jobs = 2}));
    EXPECT_TRUE(writer->Sync());
    EXPECT_EQ(watcher.last.bytes_done, watcher.last.bytes_total);
    written += watcher.last.bytes_done;
    if (process == 0)
      EXPECT_THAT(writer->overflows(), ElementsAre(Pair("narrow", 1)));
    else
      EXPECT_THAT(writer->overflows(), ElementsAre());
  }
  EXPECT_EQ(written, plan_.total_bytes() - 6 - 16) << "all but the header and the zeros";
  for (const FilePlan& file : plan_.files)
    EXPECT_TRUE(BytesOf(FileJob::StagedName(directory_.path() / file.path)) ==
                Expected(file, source_))
        << file.path;
}

TEST_F(ShardWriterTest, AShardThatWasNotWrittenIsAnError) {
  const auto writer = WriterOf(1);
  ASSERT_TRUE(writer->Write(std::vector{ChunksOfProcess(1)[0]}, reporter_, {}));
  const auto synced = writer->Sync();
  ASSERT_FALSE(synced);
  EXPECT_EQ(synced.error().kind, ErrorKind::kUsage);
}

TEST_F(ShardWriterTest, AShardOfAnotherProcessIsRefused) {
  for (uint32_t chunk : {ChunksOfProcess(1)[0], uint32_t{99}}) {
    const auto written = WriterOf(0)->Write(std::vector{chunk}, reporter_, {});
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().kind, ErrorKind::kUsage);
  }
}

TEST_F(ShardWriterTest, WhatNoShardHoldsMustBeZero) {
  plan_.files.push_back(
      FileOf("c", "", {{"ones", View::Cast(View::Fill(DType::kFloat32, {2}, 1).value(),
                                           DType::kFloat16).value()}}));
  const auto writer = ShardWriter::Make(plan_, source_, 0, directory_.path());
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().kind, ErrorKind::kMapping);
  EXPECT_EQ(writer.error().tensor, "ones");
}

TEST_F(ShardWriterTest, ErrorsOfReadingAndOfTheFilesAreReported) {
  source_.on_read = [](uint64_t, size_t) -> Result<> {
    return std::unexpected(Error{.kind = ErrorKind::kUsage, .found = "not lent"});
  };
  const auto unread = WriterOf(0)->Write(ChunksOfProcess(0), reporter_, {});
  ASSERT_FALSE(unread);
  EXPECT_EQ(unread.error().found, "not lent");
  source_.on_read = {};
  std::filesystem::remove(FileJob::StagedName(directory_.path() / "a"));
  const auto unwritten = WriterOf(0)->Write(ChunksOfProcess(0), reporter_, {});
  ASSERT_FALSE(unwritten);
  EXPECT_EQ(unwritten.error().kind, ErrorKind::kDestination);
}

}  // namespace
}  // namespace reshard
