#include <nanobind/nanobind.h>

#include "bindings.h"

NB_MODULE(_core, m) {
  m.doc() = "The C++ library, as the package needs it; use `reshard` instead.";
  reshard::python::BindConvert(m);
  reshard::python::BindCheckpoint(m);
  reshard::python::BindLive(m);
}
