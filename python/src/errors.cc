#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "bindings.h"

namespace nb = nanobind;

namespace reshard::python {

void Raise(const Error& error) {
  const nb::object make = nb::module_::import_("reshard._errors").attr("from_core");
  const nb::object exception =
      make(std::string(ErrorKindName(error.kind)), error.ToString(), error.file, error.offset,
           error.tensor, error.found, error.expected, error.help);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw nb::python_error();
}

}  // namespace reshard::python
