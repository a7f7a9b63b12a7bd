#include "engine/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "engine/engine_test_support.h"
#include "engine/file_job.h"
#include "engine/journal.h"
#include "io/io_test_support.h"
#include "plan/planner.h"

namespace reshard {
namespace {

namespace fs = std::filesystem;

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

// Counts progress and checks that it never goes back.
class Watcher final : public Reporter {
 public:
  void OnProgress(const Progress& progress) override {
    EXPECT_GE(progress.bytes_done, last.bytes_done);
    EXPECT_LE(progress.bytes_done, progress.bytes_total);
    last = progress;
  }
  Progress last;
};

// A plan of five files: one of three blocks that is assembled and cast, a small one, one without a
// byte, one without any element, a copy of a file elsewhere.
class RunnerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::vector<float> values(150'000);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1000) / 7;
    values[77] = 1e9f;
    source_.Add(
        "big", DType::kFloat32, {100, 1500}, BytesOfValues(values),
        {{.start = {0, 0}, .extent = {100, 700}}, {.start = {0, 700}, .extent = {100, 800}}});
    source_.Add("bytes", DType::kInt8, {8'500'001}, Noise(8'500'001, 1));
    source_.Add("small", DType::kInt32, {5}, Noise(20, 2));
    source_.Add("none", DType::kInt32, {0}, "");
    source_.Open();
    original_ = directory_.path() / "original.json";
    PutBytes(original_, Noise(300'000, 3));

    plan_.files.push_back(FileOf("large", "head",
                                 {{"bytes", source_.Of("bytes")},
                                  {"big", *View::Cast(source_.Of("big"), DType::kFloat16)}}));
    plan_.files.push_back(FileOf("small", "", {{"small", source_.Of("small")}}));
    plan_.files.push_back({.path = "nothing"});
    plan_.files.push_back(FileOf("folder/empty", "h", {{"none", source_.Of("none")}}));
    plan_.files.push_back({.path = "copy.json", .size = 300'000, .copy_of = original_});
  }

  fs::path destination() const { return directory_.path() / "out"; }

  StagedOutput Stage() {
    auto output = StagedOutput::Open(destination(), "0123456789abcdef", {});
    EXPECT_TRUE(output) << output.error().ToString();
    return std::move(*output);
  }

  Result<RunReport> Run(unsigned jobs = 2) {
    StagedOutput output = Stage();
    staging_ = output.path();
    watcher_.last = {};
    return RunPlan(plan_, source_, output, watcher_, {.jobs = jobs, .memory = memory_, .cancelled = &cancelled_});
  }

  // The staged files are what the plan says, and the report's sums are theirs.
  void ExpectAllThere(const Result<RunReport>& report) {
    ASSERT_TRUE(report) << report.error().ToString();
    for (size_t i = 0; i < plan_.files.size(); ++i) {
      const FilePlan& file = plan_.files[i];
      const std::string bytes = BytesOf(staging_ / file.path);
      const std::string want =
          file.copy_of.empty() ? Expected(file, source_) : BytesOf(file.copy_of);
      EXPECT_TRUE(bytes == want) << file.path;
      EXPECT_EQ(report->files[i], *SumFile(MemorySource(bytes))) << file.path;
    }
    EXPECT_TRUE(fs::exists(staging_ / kJournalName)) << "until the output has its name";
    EXPECT_EQ(watcher_.last.bytes_done, plan_.total_bytes() + plan_.checked_bytes());
    EXPECT_EQ(watcher_.last.files_done, plan_.files.size());
  }

  // From now on reads of the large tensor "bytes" fail: only its file cannot be finished.
  void BreakLargeFile() {
    source_.on_read = [](uint64_t, size_t length) -> Result<> {
      if (length < 1000) return {};
      return std::unexpected(Error{.kind = ErrorKind::kSource, .found = "a bad sector"});
    };
  }

  fs::path Staged(const std::string& path) const {
    return FileJob::StagedName((staging_ / path).string());
  }

  TestDirectory directory_;
  FakeSource source_;
  fs::path original_;
  Plan plan_;
  Watcher watcher_;
  std::atomic<bool> cancelled_ = false;
  uint64_t memory_ = 0;
  fs::path staging_;
};

TEST_F(RunnerTest, TheSameBytesForAnyNumberOfThreads) {
  for (unsigned jobs : {1u, 2u, 8u}) {
    SCOPED_TRACE(jobs);
    const auto report = Run(jobs);
    ExpectAllThere(report);
    EXPECT_EQ(report->bytes_resumed, 0u);
    ASSERT_EQ(report->overflows.size(), 1u);
    EXPECT_EQ(report->overflows[0].tensor, "big");
    EXPECT_EQ(report->overflows[0].count, 1u);
    fs::remove_all(staging_);
  }
}

TEST_F(RunnerTest, MoreMemoryMakesTheSameBytes) {
  plan_.files.push_back(
      FileOf("turned", "h", {{"big", *View::Permute(source_.Of("big"), {1, 0})}}));
  memory_ = uint64_t{8} << 20;
  ExpectAllThere(Run(2));
}

TEST_F(RunnerTest, ChecksThatHoldChangeNothing) {
  plan_.checks.push_back({.name = "none",
                          .view = source_.Of("none"),
                          .equals = *View::Fill(DType::kInt32, {0})});
  plan_.checks.push_back(
      {.name = "bytes", .view = source_.Of("bytes"), .equals = source_.Of("bytes")});
  for (unsigned jobs : {1u, 3u}) {
    ExpectAllThere(Run(jobs));
    fs::remove_all(staging_);
  }
}

TEST_F(RunnerTest, ACheckThatFailsLeavesNothing) {
  plan_.checks.push_back({.name = "small",
                          .view = source_.Of("small"),
                          .equals = *View::Fill(DType::kInt32, {5}),
                          .why = "zeros"});
  const auto report = Run(1);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::kSource);
  EXPECT_EQ(report.error().tensor, "small");
  EXPECT_FALSE(fs::exists(staging_));
}

// Files that an earlier run has finished do not stand for its checks.
TEST_F(RunnerTest, ChecksAreMadeAgainOnResume) {
  std::ranges::rotate(plan_.files, plan_.files.begin() + 1);
  BreakLargeFile();
  ASSERT_FALSE(Run(1));
  source_.on_read = nullptr;
  plan_.checks.push_back({.name = "small",
                          .view = source_.Of("small"),
                          .equals = *View::Fill(DType::kInt32, {5}),
                          .why = "zeros"});
  const auto report = Run(1);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().tensor, "small");
}

TEST_F(RunnerTest, ResumeKeepsWhatIsFinished) {
  // The small files come first, so that one thread finishes them before the large one fails.
  std::ranges::rotate(plan_.files, plan_.files.begin() + 1);
  BreakLargeFile();
  const auto broken = Run(1);
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().found, "a bad sector");
  EXPECT_EQ(broken.error().tensor, "bytes");
  ASSERT_TRUE(fs::exists(Staged("copy.json")));
  EXPECT_FALSE(fs::exists(staging_ / "copy.json")) << "no final name before all is done";
  const auto inode_time = fs::last_write_time(Staged("copy.json"));

  source_.on_read = nullptr;
  const auto report = Run();
  ExpectAllThere(report);
  EXPECT_EQ(report->bytes_resumed, 300'021u);
  EXPECT_EQ(fs::last_write_time(staging_ / "copy.json"), inode_time);
}

TEST_F(RunnerTest, ResumeWritesDamagedFilesAgain) {
  std::ranges::rotate(plan_.files, plan_.files.begin() + 1);
  BreakLargeFile();
  ASSERT_FALSE(Run(1));
  std::string bytes = BytesOf(Staged("copy.json"));
  bytes[123'456] ^= 1;
  PutBytes(Staged("copy.json"), bytes);
  PutBytes(Staged("small"), "short");

  source_.on_read = nullptr;
  const auto report = Run();
  ExpectAllThere(report);
  EXPECT_EQ(report->bytes_resumed, 1u);  // "folder/empty"
}

TEST_F(RunnerTest, AChangedSourceStartsAfresh) {
  std::ranges::rotate(plan_.files, plan_.files.begin() + 1);
  BreakLargeFile();
  ASSERT_FALSE(Run(1));
  source_.on_read = nullptr;
  source_.Open(/*mtime_ns=*/1);
  const auto report = Run();
  ExpectAllThere(report);
  EXPECT_EQ(report->bytes_resumed, 0u);
}

// The files that are copied as they are count as source, too.
TEST_F(RunnerTest, AChangedOriginalStartsAfresh) {
  std::ranges::rotate(plan_.files, plan_.files.begin() + 1);
  BreakLargeFile();
  ASSERT_FALSE(Run(1));
  source_.on_read = nullptr;
  PutBytes(original_, Noise(300'000, 4));
  const auto report = Run();
  ExpectAllThere(report);
  EXPECT_EQ(report->bytes_resumed, 0u);
}

TEST_F(RunnerTest, AnOriginalOfAnotherSizeIsRefused) {
  for (size_t size : {299'999u, 300'001u}) {
    PutBytes(original_, Noise(size, 4));
    const auto report = Run();
    ASSERT_FALSE(report) << size;
    EXPECT_EQ(report.error().kind, ErrorKind::kSource);
    EXPECT_EQ(report.error().file, original_);
  }
}

TEST_F(RunnerTest, CancelStopsPartWayAndTheNextRunGoesOn) {
  std::ranges::rotate(plan_.files, plan_.files.begin() + 1);
  int reads = 0;
  source_.on_read = [&](uint64_t, size_t length) -> Result<> {
    if (length > 1000 && ++reads == 3) {
      cancelled_ = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(500));  // The run looks now and then.
    }
    return {};
  };
  const auto stopped = Run(1);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
  EXPECT_THAT(stopped.error().help, testing::HasSubstr("again"));
  EXPECT_TRUE(fs::exists(Staged("copy.json")));

  cancelled_ = false;
  const auto report = Run(1);
  ExpectAllThere(report);
  EXPECT_EQ(report->bytes_resumed, 300'021u);
}

TEST_F(RunnerTest, CancelledBeforeAnythingIsDoneLeavesNothing) {
  cancelled_ = true;
  const auto stopped = Run();
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
  EXPECT_FALSE(fs::exists(staging_));
}

TEST_F(RunnerTest, AFullDiskIsTheDestinationsFault) {
  // As the limit on a file's size, which is hit like a full disk.
  struct rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small = {.rlim_cur = 1'000'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto report = Run();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, ignored);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::kDestination);
  EXPECT_THAT(report.error().file, testing::HasSubstr("large"));
  EXPECT_THAT(report.error().found, testing::HasSubstr("File too large"));
}

// Another file has the name of one that is to be staged: its own name is as safe as any.
TEST_F(RunnerTest, WhatALinkLeadsToIsNotWritten) {
  staging_ = Stage().path();
  PutBytes(directory_.path() / "victim", "precious");
  PutBytes(directory_.path() / "victim2", "precious");
  fs::create_symlink(directory_.path() / "victim", Staged("large"));
  fs::create_hard_link(directory_.path() / "victim2", Staged("small"));
  ExpectAllThere(Run());
  EXPECT_EQ(BytesOf(directory_.path() / "victim"), "precious");
  EXPECT_EQ(BytesOf(directory_.path() / "victim2"), "precious");
}

TEST_F(RunnerTest, AFolderThatIsALinkIsRefused) {
  staging_ = Stage().path();
  fs::create_directory(directory_.path() / "elsewhere");
  fs::create_symlink(directory_.path() / "elsewhere", staging_ / "folder");
  const auto report = Run();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::kDestination);
  EXPECT_TRUE(fs::is_empty(directory_.path() / "elsewhere"));
}

// Stopped behind the last rename of a file, before the output has its name.
TEST_F(RunnerTest, FilesWithFinalNamesAreKept) {
  ExpectAllThere(Run());
  ASSERT_TRUE(fs::exists(staging_ / "large"));
  const auto report = Run();
  ExpectAllThere(report);
  EXPECT_EQ(report->bytes_resumed, plan_.total_bytes());
}

TEST_F(RunnerTest, WhatCannotBeCreatedIsTheDestinationsFault) {
  staging_ = Stage().path();
  fs::create_directory(Staged("small"));
  const auto report = Run();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::kDestination);
}

TEST_F(RunnerTest, MoreThanTheDiskHoldsIsRefusedBeforeWriting) {
  plan_.files.push_back({.path = "huge", .size = uint64_t{1} << 60});
  const auto report = Run();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().kind, ErrorKind::kDestination);
  EXPECT_FALSE(fs::exists(staging_)) << "nothing there is worth resuming";
}

uint32_t ZlibCrc(std::string_view bytes) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

// Ranges that lie in one window, in one block, across all blocks, next to each other and over no
// byte at all; targets at the very end, in the first block, and across the edge of two blocks.
TEST_F(RunnerTest, LateBytesAreTheCrcsOfTheFinishedFile) {
  const uint64_t edge = kBlockBytes - 2;
  FilePlan file{.path = "zip",
                .size = 8'500'050,
                .literals = {{0, std::string(45, '\0')}, {8'500'046, std::string(4, '\0')}},
                .slots = {{.name = "bytes", .offset = 45, .view = source_.Of("bytes")}},
                .late_crcs = {{.begin = 45, .end = 100, .targets = {0}},
                              {.begin = 100, .end = 1'000'000, .targets = {4, 8}},
                              {.begin = 1'000'000, .end = 1'000'000, .targets = {12}},
                              {.begin = edge + 4, .end = 8'500'046, .targets = {edge, 8'500'046}}}};
  plan_.files = {file};
  for (unsigned jobs : {1u, 4u}) {
    const auto report = Run(jobs);
    ASSERT_TRUE(report) << report.error().ToString();
    const std::string bytes = BytesOf(staging_ / "zip");
    std::string want = Expected(file, source_);
    for (const LateCrc& late : file.late_crcs) {
      const uint32_t crc =
          ZlibCrc(std::string_view(bytes).substr(late.begin, late.end - late.begin));
      for (uint64_t target : late.targets) std::memcpy(want.data() + target, &crc, 4);
    }
    EXPECT_TRUE(bytes == want);
    EXPECT_EQ(report->files[0], *SumFile(MemorySource(bytes)));
    fs::remove_all(staging_);
  }
}

}  // namespace
}  // namespace reshard
