#include "engine/crew.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace reshard {
namespace {

StepFn Nothing() {
  return [](uint64_t) -> Result<> { return {}; };
}

class CrewTest : public testing::TestWithParam<unsigned> {
 protected:
  std::atomic<bool> stop_ = false;
  std::atomic<bool> cancelled_ = false;
};
INSTANTIATE_TEST_SUITE_P(Jobs, CrewTest, testing::Values(1u, 2u, 7u));

TEST_P(CrewTest, EachStepIsDoneOnceByWorkersOfOneThreadEach) {
  std::mutex mutex;
  std::vector<uint64_t> steps;
  size_t workers = 0;
  const Crew crew{.jobs = GetParam()};
  const auto done = crew.Run(1000, &stop_, [&]() -> StepFn {
    std::lock_guard lock(mutex);
    ++workers;
    return [&, made_by = std::this_thread::get_id()](uint64_t step) -> Result<> {
      std::lock_guard step_lock(mutex);
      EXPECT_EQ(std::this_thread::get_id(), made_by);
      steps.push_back(step);
      return {};
    };
  });
  EXPECT_TRUE(done);
  EXPECT_FALSE(stop_);
  EXPECT_EQ(workers, GetParam());
  std::ranges::sort(steps);
  ASSERT_EQ(steps.size(), 1000u);
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_EQ(steps[i], i);
}

TEST_P(CrewTest, NoMoreWorkersAreMadeThanThereAreSteps) {
  std::atomic<size_t> workers = 0;
  const Crew crew{.jobs = GetParam()};
  EXPECT_TRUE(crew.Run(2, &stop_, [&]() -> StepFn {
    ++workers;
    return Nothing();
  }));
  EXPECT_EQ(workers, std::min(GetParam(), 2u));
}

TEST_P(CrewTest, WatchIsCalledByTheCallerAndAtTheEnd) {
  std::atomic<uint64_t> done = 0;
  uint64_t seen = 0;
  const Crew crew{.jobs = GetParam(), .watch = [&, caller = std::this_thread::get_id()] {
                    EXPECT_EQ(std::this_thread::get_id(), caller);
                    seen = done;
                  }};
  const auto step = [&](uint64_t) -> Result<> {
    ++done;
    return {};
  };
  EXPECT_TRUE(crew.Run(50, &stop_, [&]() -> StepFn { return step; }));
  EXPECT_EQ(seen, 50u);
}

TEST_P(CrewTest, NoStepsAreDoneAtOnce) {
  size_t watched = 0;
  const Crew crew{.jobs = GetParam(), .watch = [&] { ++watched; }};
  EXPECT_TRUE(crew.Run(0, &stop_, Nothing));
  EXPECT_GE(watched, 1u);
}

TEST_P(CrewTest, AnErrorEndsTheWork) {
  std::atomic<uint64_t> begun = 0;
  const Crew crew{.jobs = GetParam()};
  const auto step = [&](uint64_t number) -> Result<> {
    ++begun;
    if (number < 10) return {};
    return std::unexpected(Error{.kind = ErrorKind::kSource, .found = "a bad sector"});
  };
  const auto done = crew.Run(1'000'000, &stop_, [&]() -> StepFn { return step; });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kSource);
  EXPECT_EQ(done.error().found, "a bad sector");
  EXPECT_TRUE(stop_);
  EXPECT_LE(begun, 10 + GetParam());
}

TEST_P(CrewTest, CancellingIsAnErrorAndTellsLongSteps) {
  const Crew crew{.jobs = GetParam(), .cancelled = &cancelled_};
  const auto step = [&](uint64_t) -> Result<> {
    cancelled_ = true;
    while (!stop_) std::this_thread::yield();
    return {};
  };
  const auto done = crew.Run(1'000'000, &stop_, [&]() -> StepFn { return step; });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kInterrupted);
}

TEST_P(CrewTest, WhoWatchesMayCancel) {
  const Crew crew{
      .jobs = GetParam(), .cancelled = &cancelled_, .watch = [&] { cancelled_ = true; }};
  const auto step = [](uint64_t) -> Result<> {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return {};
  };
  const auto done = crew.Run(1'000'000, &stop_, [&]() -> StepFn { return step; });
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kInterrupted);
}

TEST_P(CrewTest, WhatAWorkerThrowsIsThrownToTheCaller) {
  std::atomic<uint64_t> begun = 0;
  const Crew crew{.jobs = GetParam()};
  const auto step = [&](uint64_t number) -> Result<> {
    ++begun;
    if (number == 10) throw std::bad_alloc();
    return {};
  };
  EXPECT_THROW((void)crew.Run(1'000'000'000, &stop_, [&]() -> StepFn { return step; }),
               std::bad_alloc);
  EXPECT_TRUE(stop_);
  EXPECT_THROW((void)crew.Run(1, &cancelled_, []() -> StepFn { throw std::bad_alloc(); }),
               std::bad_alloc);
}

TEST_P(CrewTest, WhatWatchingThrowsEndsTheWork) {
  const Crew crew{.jobs = GetParam(), .watch = [] { throw std::bad_alloc(); }};
  const auto step = [&](uint64_t) -> Result<> {
    while (!stop_) std::this_thread::yield();
    return {};
  };
  EXPECT_THROW((void)crew.Run(1'000'000, &stop_, [&]() -> StepFn { return step; }),
               std::bad_alloc);
}

}  // namespace
}  // namespace reshard
