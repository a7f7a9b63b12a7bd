#ifndef RESHARD_ENGINE_RUNNER_H_
#define RESHARD_ENGINE_RUNNER_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/checksum.h"
#include "io/staged_output.h"
#include "plan/plan_data.h"
#include "reshard/reporter.h"
#include "reshard/source.h"

namespace reshard {

/// How a plan is run.
struct RunnerOptions {
  unsigned jobs = 1;                           ///< threads, at least 1
  uint64_t memory = 0;  ///< for all threads' buffers together; what `jobs` need at least is taken
  const std::atomic<bool>* cancelled = nullptr; ///< becomes true to stop the run; may be null
};

/// A tensor some of whose finite values became infinite in a cast.
struct Overflow {
  std::string tensor;
  uint64_t count = 0;
};

/// What a run has done.
struct RunReport {
  std::vector<FileChecksum> files;   ///< in the order of the plan's files
  std::vector<Overflow> overflows;   ///< sorted by tensor; of the files written in this run
  uint64_t bytes_resumed = 0;
};

/// Stands for the state of all files that a plan reads, as they are now: another text, another source.
std::string SourceState(const Plan& plan, const Catalog& catalog);

/// Writes every file of the plan into the staged output, each synced to the disk. Files that an
/// earlier run has finished are checked and kept. The bytes do not depend on the number of threads.
///
/// Tensors that are read whole are compared with the checksums that the source's files carry of them
/// (CheckedSource): one that differs is an error of kind kSource, and nothing is left for a next run.
/// The plan's checks are made by the same threads, before the files: one that does not hold is an
/// error of kind kSource.
///
/// On an error the finished files stay for the next run; where there is none, nothing stays. The
/// error is the first one met; kInterrupted where `cancelled` became true.
Result<RunReport> RunPlan(const Plan& plan, const Source& source, StagedOutput& output,
                          Reporter& reporter, const RunnerOptions& options);

}  // namespace reshard

#endif  // RESHARD_ENGINE_RUNNER_H_
