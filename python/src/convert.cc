#include "reshard/convert.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "dtypes.h"
#include "reshard/text.h"
#include "requests.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace reshard::python {
namespace {

nb::list ToList(const std::vector<Dropped>& dropped) {
  nb::list list;
  for (const Dropped& drop : dropped)
    list.append(nb::make_tuple(drop.name, drop.byte_size, drop.why));
  return list;
}

nb::dict Describe(const Conversion& conversion) {
  const PlanDescription plan = conversion.Describe();
  nb::dict dict = SummaryDict(plan.summary);
  nb::list files;
  for (const PlannedFile& file : plan.files) {
    nb::list tensors;
    for (const PlannedTensor& tensor : file.tensors)
      tensors.append(nb::make_tuple(tensor.name, tensor.dtype, ToTuple(tensor.shape),
                                    tensor.offset, tensor.byte_size, tensor.view));
    files.append(nb::make_tuple(file.path, file.byte_size, tensors));
  }
  dict["files"] = files;
  std::vector<Dropped> dropped = plan.dropped;
  dropped.insert(dropped.end(), plan.dropped_parts.begin(), plan.dropped_parts.end());
  dict["dropped"] = ToList(dropped);
  dict["warnings"] = ToTuple(plan.warnings);
  dict["left_behind"] = ToTuple(plan.left_behind);
  dict["missing_assets"] = ToTuple(plan.missing_assets);
  return dict;
}

nb::dict Convert(const RequestFields& fields, unsigned jobs, const std::string& memory, bool force,
                 bool resume, nb::object on_progress, nb::object on_warning) {
  const ConvertRequest request = Unwrap(ToRequest(fields));
  RunOptions options{.jobs = jobs, .force = force, .resume = resume};
  if (!memory.empty()) options.memory = Unwrap(ParseByteSize(memory));
  Listener listener(std::move(on_progress), std::move(on_warning));
  options.cancelled = listener.cancelled();
  return ConvertDict(listener.Run([&]() -> Result<ConvertSummary> {
    auto conversion = Conversion::Prepare(request, listener);
    if (!conversion) return std::unexpected(std::move(conversion).error());
    return conversion->Run(options, listener);
  }));
}

nb::dict Plan(const RequestFields& fields, nb::object on_warning) {
  const ConvertRequest request = Unwrap(ToRequest(fields));
  Listener listener(nb::none(), std::move(on_warning));
  const Conversion conversion = listener.Run([&] { return Conversion::Prepare(request, listener); });
  return Describe(conversion);
}

nb::dict VerifyDirectory(const std::string& directory, unsigned jobs, nb::object on_progress) {
  Listener listener(std::move(on_progress), nb::none());
  const VerifyReport report = listener.Run([&] {
    return Verify(directory, {.jobs = jobs, .cancelled = listener.cancelled()}, listener);
  });
  nb::dict dict;
  dict["files"] = report.files;
  dict["bytes"] = report.bytes;
  nb::list faults;
  for (const auto* some : {&report.faults, &report.unlisted})
    for (const VerifyFault& fault : *some) faults.append(nb::make_tuple(fault.file, fault.what));
  dict["faults"] = faults;
  return dict;
}

}  // namespace

void BindConvert(nb::module_& m) {
  m.def("version", [] { return std::string(Version()); });
  m.def("recipes", [] {
    nb::list list;
    for (const RecipeInfo& recipe : ListRecipes())
      list.append(nb::make_tuple(recipe.name, recipe.description));
    return list;
  });
  m.def("recipe_for",
        [](const std::string& flavor, const std::vector<std::string>& architectures) {
          return RecipeFor(flavor, architectures);
        },
        "flavor"_a, "architectures"_a);
  m.def("recipe_text", [](const std::string& name) { return Unwrap(RecipeText(name)); },
        "name"_a);
  m.def("convert", &Convert, "fields"_a, "jobs"_a, "memory"_a, "force"_a, "resume"_a,
        "on_progress"_a.none(), "on_warning"_a.none());
  m.def("plan", &Plan, "fields"_a, "on_warning"_a.none());
  m.def("verify", &VerifyDirectory, "directory"_a, "jobs"_a, "on_progress"_a.none());
}

}  // namespace reshard::python
