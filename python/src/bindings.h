#ifndef RESHARD_PYTHON_BINDINGS_H_
#define RESHARD_PYTHON_BINDINGS_H_

#include <nanobind/nanobind.h>

#include <atomic>
#include <expected>
#include <optional>
#include <utility>

#include "reshard/error.h"
#include "reshard/reporter.h"

namespace reshard::python {

/// Raises the reshard.Error that stands for an error, with the same text as on the command line.
[[noreturn]] void Raise(const Error& error);

template <typename T>
T Unwrap(Result<T> result) {
  if (!result) Raise(result.error());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

/// Hands progress and warnings to Python callables (None for nobody), and Ctrl-C and what they raise
/// to the work: it stops, and the exception goes on. Made and used with the GIL; called without it.
class Listener final : public Reporter {
 public:
  explicit Listener(nanobind::object on_progress = nanobind::none(),
                    nanobind::object on_warning = nanobind::none());

  void OnProgress(const Progress& progress) override;
  void OnWarning(std::string_view text) override;
  const std::atomic<bool>* cancelled() const { return &cancelled_; }

  /// Does `work` without the GIL, then raises what was caught meanwhile, or work's own error.
  template <typename Work>
  auto Run(const Work& work) {
    std::optional<decltype(work())> result;
    {
      nanobind::gil_scoped_release release;
      result.emplace(work());
    }
    if (caught_) throw nanobind::python_error(std::move(*caught_));
    return Unwrap(*std::move(result));
  }

 private:
  template <typename Call>
  void Guard(const Call& call);

  nanobind::object on_progress_;
  nanobind::object on_warning_;
  std::atomic<bool> cancelled_ = false;
  std::optional<nanobind::python_error> caught_;
};

void BindCheckpoint(nanobind::module_& m);
void BindConvert(nanobind::module_& m);
void BindLive(nanobind::module_& m);

}  // namespace reshard::python

#endif  // RESHARD_PYTHON_BINDINGS_H_
