#include "reshard/checkpoint.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "dtypes.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace reshard::python {
namespace {

using Box = std::tuple<size_t, std::string, Shape, Shape, uintptr_t, Shape>;

Checkpoint Open(const std::string& path, const std::string& from, const std::string& from_layout,
                const std::string& from_recipe, const std::string& to_recipe,
                const std::string& assets_from, const std::string& config_json,
                bool dequantize, bool keep_unknown, const std::vector<std::string>& ignore,
                nb::object on_warning) {
  OpenRequest request{.path = path,
                      .from = from,
                      .from_recipe = from_recipe,
                      .to_recipe = to_recipe,
                      .assets_from = assets_from,
                      .config_json = config_json,
                      .dequantize = dequantize,
                      .keep_unknown = keep_unknown,
                      .ignore = ignore};
  Unwrap(ParseLayoutText(from_layout, &request.from_layout));
  Listener listener(nb::none(), std::move(on_warning));
  return listener.Run([&] { return Checkpoint::Open(request, listener); });
}

nb::list Tensors(const Checkpoint& checkpoint) {
  nb::list list;
  for (const TensorInfo& tensor : checkpoint.tensors())
    list.append(nb::make_tuple(tensor.name, Name(tensor.dtype), ToTuple(tensor.shape)));
  return list;
}

nb::list Objects(const Checkpoint& checkpoint) {
  nb::list list;
  for (const Object& object : checkpoint.source().catalog().objects())
    list.append(nb::make_tuple(object.name, object.summary, object.byte_size));
  return list;
}

nb::list DroppedNames(const Checkpoint& checkpoint) {
  nb::list list;
  for (const Dropped& dropped : checkpoint.dropped())
    list.append(nb::make_tuple(dropped.name, dropped.byte_size, dropped.why));
  return list;
}

nb::dict Read(const Checkpoint& checkpoint, const std::vector<Box>& boxes, unsigned jobs,
              size_t check_part, size_t check_parts, nb::object on_progress) {
  std::vector<BoxRead> reads;
  for (const auto& [tensor, dtype, start, extent, address, strides] : boxes)
    reads.push_back({tensor, Parse(dtype), start, extent, reinterpret_cast<std::byte*>(address),
                     strides});
  Listener listener(std::move(on_progress), nb::none());
  const ReadSummary summary = listener.Run([&] {
    return checkpoint.Read(reads,
                           {.jobs = jobs,
                            .cancelled = listener.cancelled(),
                            .check_part = check_part,
                            .check_parts = check_parts},
                           listener);
  });
  nb::dict dict;
  dict["bytes_filled"] = summary.bytes_filled;
  dict["bytes_read"] = summary.bytes_read;
  dict["seconds"] = summary.seconds;
  nb::dict overflows;
  for (const auto& [name, count] : summary.overflows) overflows[name.c_str()] = count;
  dict["overflows"] = overflows;
  return dict;
}

nb::object ExpressionObject(const TensorExpression& expression) {
  nb::list inputs;
  for (const TensorExpression& input : expression.inputs) inputs.append(ExpressionObject(input));
  nb::dict dict;
  dict["op"] = expression.op;
  dict["dtype"] = Name(expression.dtype);
  dict["shape"] = ToTuple(expression.shape);
  dict["source"] = expression.source;
  dict["dim"] = expression.dim;
  dict["start"] = expression.start;
  dict["value"] = expression.value;
  dict["dims"] = ToTuple(expression.dims);
  dict["block"] = ToTuple(expression.block);
  dict["inputs"] = inputs;
  return dict;
}

nb::list Origins(const Checkpoint& checkpoint, size_t tensor, const Shape& start,
                 const Shape& extent) {
  nb::list list;
  for (const Checkpoint::Origin& origin : checkpoint.Origins(tensor, start, extent))
    list.append(nb::make_tuple(origin.source, ToTuple(origin.first), ToTuple(origin.last)));
  return list;
}

// Memory that Python owns as a tensor of a type that NumPy may not have.
nb::ndarray<nb::array_api> AsArray(nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig> bytes,
                      const std::string& dtype, const std::vector<size_t>& shape) {
  return nb::ndarray<nb::array_api>(bytes.data(), shape.size(), shape.data(), nb::cast(bytes), nullptr,
                       DlpackType(Parse(dtype)));
}

}  // namespace

void BindCheckpoint(nb::module_& m) {
  nb::class_<Checkpoint>(m, "Checkpoint")
      .def_static("open", &Open, "path"_a, "from_"_a, "from_layout"_a, "from_recipe"_a, "to_recipe"_a,
                  "assets_from"_a, "config_json"_a, "dequantize"_a, "keep_unknown"_a, "ignore"_a, "on_warning"_a.none())
      .def_prop_ro("kind", [](const Checkpoint& c) { return std::string(c.source().kind()); })
      .def_prop_ro("evidence", [](const Checkpoint& c) { return std::string(c.source().evidence()); })
      .def_prop_ro("root", [](const Checkpoint& c) { return c.source().root(); })
      .def_prop_ro("recipe", &Checkpoint::recipe)
      .def_prop_ro("recipe_why", &Checkpoint::recipe_why)
      .def_prop_ro("check_count", &Checkpoint::check_count)
      .def("tensors", &Tensors)
      .def("objects", &Objects)
      .def("dropped", &DroppedNames)
      .def("read", &Read, "boxes"_a, "jobs"_a, "check_part"_a, "check_parts"_a,
           "on_progress"_a.none())
      .def("expression",
           [](const Checkpoint& c, size_t tensor) { return ExpressionObject(c.Expression(tensor)); },
           "tensor"_a)
      .def("origins", &Origins, "tensor"_a, "start"_a, "extent"_a);
  m.def("dtype_name", [](const std::string& word) { return Name(Parse(word)); }, "word"_a);
  m.def("item_size", [](const std::string& dtype) { return ItemSize(Parse(dtype)); }, "dtype"_a);
  m.def("as_array", &AsArray, "bytes"_a, "dtype"_a, "shape"_a);
}

}  // namespace reshard::python
