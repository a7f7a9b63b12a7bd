#include "bindings.h"

namespace nb = nanobind;

namespace reshard::python {

Listener::Listener(nb::object on_progress, nb::object on_warning)
    : on_progress_(std::move(on_progress)), on_warning_(std::move(on_warning)) {}

// What is raised in a callback must not cross the library: it waits until the work has stopped.
template <typename Call>
void Listener::Guard(const Call& call) {
  nb::gil_scoped_acquire acquire;
  if (caught_) return;
  try {
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    call();
  } catch (nb::python_error& error) {
    caught_.emplace(std::move(error));
    cancelled_ = true;
  }
}

void Listener::OnProgress(const Progress& progress) {
  Guard([&] {
    if (!on_progress_.is_none()) on_progress_(progress.bytes_done, progress.bytes_total);
  });
}

void Listener::OnWarning(std::string_view text) {
  Guard([&] {
    if (!on_warning_.is_none()) on_warning_(nb::str(text.data(), text.size()));
  });
}

}  // namespace reshard::python
