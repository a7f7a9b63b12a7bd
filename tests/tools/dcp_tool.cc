// dcp_tool SRC DST RANKS [TREE]: writes what SRC holds as a DCP checkpoint of RANKS ranks, through
// the sink and the engine. Tensors "TREE.x" become the entries x of a dict TREE. For
// tests/python/test_dcp_output.py.

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/try.h"
#include "checkpoints/dcp/dcp_sink.h"
#include "engine/runner.h"
#include "plan/planner.h"
#include "reshard/convert.h"
#include "view/view.h"

namespace reshard {
namespace {

Result<FilePlan> Fill(DcpFile file, const Catalog& catalog) {
  FilePlan plan{.path = std::move(file.path),
                .size = file.layout.size,
                .literals = std::move(file.layout.literals),
                .late_crcs = std::move(file.layout.late_crcs)};
  for (size_t i = 0; i < file.slots.size(); ++i) {
    const DcpSlot& slot = file.slots[i];
    const Tensor& tensor = catalog.tensors()[slot.tensor];
    View view = View::Source(static_cast<uint32_t>(slot.tensor), tensor.dtype, tensor.shape);
    if (!tensor.shape.empty()) {
      RESHARD_ASSIGN(view, View::Slice(view, 0, slot.start, slot.count));
    }
    plan.slots.push_back(
        {.name = tensor.name, .offset = file.layout.slots[i], .view = std::move(view)});
  }
  return plan;
}

Result<Plan> MakePlan(const Catalog& catalog, unsigned ranks, const std::string& tree) {
  std::vector<TensorDecl> tensors;
  std::vector<dcp::Path> paths;
  for (const Tensor& tensor : catalog.tensors()) {
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape});
    const bool nested = !tree.empty() && tensor.name.starts_with(tree + ".");
    paths.push_back(nested ? dcp::Path{tree, tensor.name.substr(tree.size() + 1)} : dcp::Path());
  }
  const std::vector<DcpObject> objects = {{"checkpoint_version", 3.0, {}},
                                          {"run.name", std::string("caf\xc3\xa9"), {"run", "name"}},
                                          {"run.step", int64_t{1} << 40, {"run", "step"}}};
  RESHARD_ASSIGN(DcpOutput output,
                 LayoutDcp(tensors, {.ranks = ranks, .paths = paths, .objects = objects}));
  Plan plan;
  for (DcpFile& file : output.files) {
    RESHARD_ASSIGN(FilePlan filled, Fill(std::move(file), catalog));
    plan.files.push_back(std::move(filled));
  }
  plan.files.push_back(TextFile(".metadata", std::move(output.metadata)));
  Summarize(catalog, {}, {}, &plan);
  return plan;
}

Result<> Write(const std::string& from, const std::string& to, unsigned ranks,
               const std::string& tree) {
  RESHARD_ASSIGN(const auto source, OpenSource(from));
  RESHARD_ASSIGN(const Plan plan, MakePlan(source->catalog(), ranks, tree));
  RESHARD_ASSIGN(StagedOutput output, StagedOutput::Open(to, plan.summary.plan_id, {}));
  Reporter silent;
  RESHARD_TRY(RunPlan(plan, *source, output, silent, {.jobs = 2}));
  std::set<std::string> files;
  for (const FilePlan& file : plan.files) files.insert(file.path);
  RESHARD_TRY(output.Commit(files));
  output.Finish();
  return {};
}

int Main(int argc, char** argv) {
  unsigned ranks = 0;
  const std::string_view text = argc > 3 ? argv[3] : "";
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), ranks);
  if (argc < 4 || argc > 5 || parsed.ptr != text.data() + text.size()) {
    fmt::print(stderr, "usage: dcp_tool SRC DST RANKS [TREE]\n");
    return 2;
  }
  const auto done = Write(argv[1], argv[2], ranks, argc > 4 ? argv[4] : "");
  if (done) return 0;
  fmt::print(stderr, "{}\n", done.error().ToString());
  return ExitCode(done.error().kind);
}

}  // namespace
}  // namespace reshard

int main(int argc, char** argv) { return reshard::Main(argc, argv); }
