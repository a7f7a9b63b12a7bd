#include "reshard/live.h"

#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "dtypes.h"
#include "requests.h"
#include "reshard/checkpoint.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace reshard::python {
namespace {

// (name, dtype, shape, [(rank, start, extent)])
using Declared = std::tuple<std::string, std::string, Shape,
                            std::vector<std::tuple<uint32_t, Shape, Shape>>>;
// (name, start, address, strides)
using Memory = std::tuple<std::string, Shape, uintptr_t, Shape>;

std::vector<LiveTensor> ToTensors(const std::vector<Declared>& declared) {
  std::vector<LiveTensor> tensors;
  for (const auto& [name, dtype, shape, shards] : declared) {
    LiveTensor& tensor = tensors.emplace_back(LiveTensor{name, Parse(dtype), shape, {}});
    for (const auto& [rank, start, extent] : shards) tensor.shards.push_back({rank, start, extent});
  }
  return tensors;
}

std::vector<LiveBytes> ToBytes(const std::vector<Memory>& memory) {
  std::vector<LiveBytes> bytes;
  for (const auto& [name, start, address, strides] : memory)
    bytes.push_back({name, start, reinterpret_cast<const std::byte*>(address), strides});
  return bytes;
}

// Tensors in memory, or names and shapes alone, as a checkpoint in another flavor's names. The
// memory must outlive it.
Checkpoint MapLive(const std::vector<Declared>& declared, const std::vector<Memory>& memory,
                   const std::string& from_recipe, const std::string& to_recipe,
                   const std::string& config_json, nb::object on_warning) {
  const std::vector<LiveTensor> tensors = ToTensors(declared);
  const std::vector<LiveBytes> bytes = ToBytes(memory);
  Listener listener(nb::none(), std::move(on_warning));
  return listener.Run([&]() -> Result<Checkpoint> {
    auto source = MakeLiveSource(tensors, bytes);
    if (!source) return std::unexpected(std::move(source).error());
    return Checkpoint::Map(*std::move(source),
                           {.from_recipe = from_recipe,
                            .to_recipe = to_recipe,
                            .config_json = config_json},
                           listener);
  });
}

SharedSave Prepare(const RequestFields& fields, const std::vector<Declared>& declared,
                   uint32_t rank, nb::object on_warning) {
  const ConvertRequest request = Unwrap(ToRequest(fields));
  const std::vector<LiveTensor> tensors = ToTensors(declared);
  Listener listener(nb::none(), std::move(on_warning));
  return listener.Run([&] { return SharedSave::Prepare(request, tensors, rank, listener); });
}

}  // namespace

void BindLive(nb::module_& m) {
  m.def("map_live", &MapLive, "tensors"_a, "memory"_a, "from_recipe"_a, "to_recipe"_a,
        "config_json"_a, "on_warning"_a.none());
  m.def(
      "digest",
      [](uintptr_t address, size_t bytes) {
        return DigestOf({reinterpret_cast<const std::byte*>(address), bytes});
      },
      "address"_a, "bytes"_a, nb::call_guard<nb::gil_scoped_release>());
  nb::class_<SharedSave>(m, "SharedSave")
      .def_static("prepare", &Prepare, "fields"_a, "tensors"_a, "rank"_a,
                  "on_warning"_a.none())
      .def("summary", [](const SharedSave& s) { return SummaryDict(s.summary()); })
      .def_prop_ro("staging", &SharedSave::staging)
      .def("create",
           [](SharedSave& s, bool force, nb::object on_warning) {
             Listener listener(nb::none(), std::move(on_warning));
             listener.Run([&] { return s.Create(force, listener); });
           },
           "force"_a, "on_warning"_a.none())
      .def("write",
           [](SharedSave& s, const std::vector<Memory>& shards, unsigned jobs,
              nb::object on_progress) {
             const std::vector<LiveBytes> bytes = ToBytes(shards);
             Listener listener(std::move(on_progress), nb::none());
             listener.Run([&] { return s.Write(bytes, jobs, listener.cancelled(), listener); });
           },
           "shards"_a, "jobs"_a, "on_progress"_a.none())
      .def("sync",
           [](SharedSave& s) {
             Listener listener;
             listener.Run([&] { return s.Sync(); });
           })
      .def("overflows", &SharedSave::overflows)
      .def("sum",
           [](const SharedSave& s, uint64_t part, uint64_t parts, unsigned jobs) {
             Listener listener;
             const std::string sums =
                 listener.Run([&] { return s.Sum(part, parts, jobs, listener.cancelled()); });
             return nb::bytes(sums.data(), sums.size());
           },
           "part"_a, "parts"_a, "jobs"_a)
      .def("commit",
           [](SharedSave& s, const std::vector<nb::bytes>& parts, nb::object on_warning) {
             std::vector<std::string> sums;
             for (const nb::bytes& part : parts) sums.emplace_back(part.c_str(), part.size());
             Listener listener(nb::none(), std::move(on_warning));
             return ConvertDict(listener.Run([&] { return s.Commit(sums, listener); }));
           },
           "sums"_a, "on_warning"_a.none())
      .def("abandon", &SharedSave::Abandon);
}

}  // namespace reshard::python
