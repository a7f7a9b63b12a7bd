#include "engine/file_job.h"

#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

#include "engine/engine_test_support.h"
#include "io/io_test_support.h"

namespace reshard {
namespace {

// One file of three blocks from one tensor.
class FileJobTest : public testing::Test {
 protected:
  void SetUp() override {
    source_.Add("w", DType::kInt8, {10'000'000}, Noise(10'000'000, 1));
    source_.Open();
    plan_.files.push_back({.path = "folder/w",
                           .size = 10'000'000,
                           .slots = {{.name = "w", .offset = 0, .view = source_.Of("w")}}});
    layouts_ = *ChunkLayouts::Locate(ChunksOf(plan_, source_.catalog()), source_, 1, &stop_);
    index_.emplace(source_.catalog());
  }

  Result<bool> Write(FileJob& job, uint64_t block) {
    WindowFiller filler(source_, *index_, layouts_);
    BlockHash hash;
    return job.WriteBlock(block, {filler, hash, [](const Slot&, size_t) {}, bytes_done_, stop_});
  }

  TestDirectory directory_;
  OutputDirectory output_ = *OutputDirectory::Open(directory_.path());
  FakeSource source_;
  Plan plan_;
  ChunkLayouts layouts_;
  std::optional<ChunkIndex> index_;
  std::atomic<uint64_t> bytes_done_ = 0;
  std::atomic<bool> stop_ = false;
};

TEST_F(FileJobTest, BlocksInAnyOrderFromAnyThread) {
  FileJob job(plan_.files[0], output_);
  ASSERT_EQ(job.block_count(), 3u);
  std::atomic<int> last = 0;
  {
    std::vector<std::jthread> threads;
    for (uint64_t block : {2, 0, 1})
      threads.emplace_back([&, block] { last += Write(job, block).value(); });
  }
  EXPECT_EQ(last, 1) << "exactly one block is the last one missing";
  EXPECT_EQ(bytes_done_, 10'000'000u);
  const auto sum = job.Finish();
  ASSERT_TRUE(sum);
  const std::string bytes = BytesOf(directory_.path() / "folder" / "w.partial");
  EXPECT_TRUE(bytes == source_.Elements("w"));
  EXPECT_EQ(*sum, *SumFile(MemorySource(bytes)));
}

TEST_F(FileJobTest, StopsBetweenWindows) {
  FileJob job(plan_.files[0], output_);
  source_.on_read = [&](uint64_t, size_t) -> Result<> {
    stop_ = true;
    return {};
  };
  const auto written = Write(job, 0);
  ASSERT_TRUE(written);
  EXPECT_FALSE(*written);
  EXPECT_EQ(bytes_done_, kWindowBytes);
}

TEST_F(FileJobTest, EveryBlockGetsTheErrorOfOpening) {
  PutBytes(directory_.path() / "folder", "a file where a directory must be");
  FileJob job(plan_.files[0], output_);
  for (uint64_t block : {0, 1}) {
    const auto written = Write(job, block);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().kind, ErrorKind::kDestination);
  }
}

TEST_F(FileJobTest, StagedNamesAreNoWeights) {
  EXPECT_EQ(FileJob::StagedName("d/model.safetensors"), "d/model.safetensors.partial");
}

}  // namespace
}  // namespace reshard
