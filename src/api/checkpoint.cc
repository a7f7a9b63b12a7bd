#include "reshard/checkpoint.h"

#include <algorithm>
#include <chrono>
#include <map>

#include <fmt/format.h>

#include "api/jobs.h"
#include "api/mapped_source.h"
#include "base/checked_math.h"
#include "base/try.h"
#include "engine/box_reads.h"
#include "io/file.h"
#include "plan/left_out.h"
#include "reshard/convert.h"
#include "view/lower.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

// What lies in memory are whole tensors by name, as in a DCP; the hub's, if no flavor is asked for.
ConvertRequest AsConversion(const OpenRequest& request) {
  const bool to_hub = request.to_recipe.empty();
  return {.source = request.path,
          .from = request.from,
          .from_layout = request.from_layout,
          .to = to_hub ? Kind::kHf : Kind::kDcp,
          .recipe = to_hub ? request.from_recipe : request.to_recipe,
          .from_recipe = request.from_recipe,
          .dequantize = request.dequantize ? std::optional(DType::kFloat32) : std::nullopt,
          .assets_from = request.assets_from,
          .config_json = request.config_json,
          .keep_unknown = request.keep_unknown,
          .ignore = request.ignore};
}

std::string_view OpName(View::Op op) {
  switch (op) {
    case View::Op::kSource: return "source";
    case View::Op::kFill: return "fill";
    case View::Op::kSlice: return "slice";
    case View::Op::kConcat: return "concat";
    case View::Op::kReshape: return "reshape";
    case View::Op::kPermute: return "permute";
    case View::Op::kRepeat: return "repeat";
    case View::Op::kCast: return "cast";
    case View::Op::kDequantize: return "dequantize";
  }
  return "";
}

TensorExpression ExpressionOf(const View& view, const Catalog& catalog) {
  if (view.op() == View::Op::kRepeat) return ExpressionOf(view.inputs()[0], catalog);
  TensorExpression expression{
      .op = std::string(OpName(view.op())), .dtype = view.dtype(), .shape = view.shape()};
  switch (view.op()) {
    case View::Op::kSource: expression.source = catalog.tensors()[view.source()].name; break;
    case View::Op::kFill: expression.value = view.value(); break;
    case View::Op::kSlice:
      expression.dim = view.dim();
      expression.start = view.start();
      break;
    case View::Op::kConcat: expression.dim = view.dim(); break;
    case View::Op::kDequantize:
      expression.block.assign(view.block().begin(), view.block().end());
      break;
    case View::Op::kPermute: expression.dims.assign(view.dims().begin(), view.dims().end()); break;
    default: break;
  }
  for (const View& input : view.inputs())
    expression.inputs.push_back(ExpressionOf(input, catalog));
  return expression;
}

Result<> CheckBox(const BoxRead& box, const std::vector<NamedView>& tensors) {
  const auto misfit = [&](const std::string& name, const Shape& shape) {
    return std::unexpected(Error{
        .kind = ErrorKind::kUsage,
        .tensor = name,
        .found = fmt::format("a box of {} elements at {}", ShapeText(box.extent),
                             ShapeText(box.start)),
        .expected = fmt::format("one within {}, with a stride for each dimension", ShapeText(shape))});
  };
  if (box.tensor >= tensors.size()) return misfit("", {});
  const NamedView& tensor = tensors[box.tensor];
  const Shape& shape = tensor.view.shape();
  if (box.start.size() != shape.size() || box.extent.size() != shape.size() ||
      box.strides.size() != shape.size())
    return misfit(tensor.name, shape);
  for (size_t dim = 0; dim < shape.size(); ++dim)
    if (box.start[dim] < 0 || box.extent[dim] < 0 || box.start[dim] > shape[dim] ||
        box.extent[dim] > shape[dim] - box.start[dim])
      return misfit(tensor.name, shape);
  return {};
}

}  // namespace

struct Checkpoint::State {
  MappedSource mapped;
  std::vector<TensorInfo> tensors;
  std::vector<Dropped> dropped;
  std::string recipe;
  std::string recipe_why;

  const Mapping& mapping() const { return mapped.target.mapping; }
};

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Result<Checkpoint> Checkpoint::Open(const OpenRequest& request, Reporter& reporter) {
  RESHARD_ASSIGN(auto source, OpenSource(request.path, request.from));
  return Map(std::move(source), request, reporter);
}

Result<Checkpoint> Checkpoint::Map(std::unique_ptr<Source> source, const OpenRequest& request,
                                   Reporter& reporter) {
  RESHARD_ASSIGN(MappedSource mapped,
                 MapSource(AsConversion(request), std::move(source), reporter));
  auto state = std::make_unique<State>(State{.mapped = std::move(mapped)});
  std::ranges::sort(state->mapped.target.mapping.tensors, {}, &NamedView::name);
  for (const NamedView& tensor : state->mapping().tensors)
    state->tensors.push_back({tensor.name, tensor.view.dtype(), tensor.view.shape()});
  state->dropped = ListLeftOut(state->mapping().dropped, state->mapping().dropped_parts,
                               state->mapped.source->catalog())
                       .tensors;
  state->recipe = state->mapped.flavors.name();
  state->recipe_why = state->mapped.flavors.why();
  return Checkpoint(std::move(state));
}

const std::vector<TensorInfo>& Checkpoint::tensors() const { return state_->tensors; }
const Source& Checkpoint::source() const { return *state_->mapped.source; }
const std::string& Checkpoint::recipe() const { return state_->recipe; }
const std::string& Checkpoint::recipe_why() const { return state_->recipe_why; }
const std::vector<Dropped>& Checkpoint::dropped() const { return state_->dropped; }
size_t Checkpoint::check_count() const { return state_->mapping().checks.size(); }

TensorExpression Checkpoint::Expression(size_t tensor) const {
  return ExpressionOf(state_->mapping().tensors.at(tensor).view, source().catalog());
}

std::vector<Checkpoint::Origin> Checkpoint::Origins(size_t tensor, std::span<const int64_t> start,
                                                    std::span<const int64_t> extent) const {
  std::map<uint32_t, Origin> origins;
  const Catalog& catalog = source().catalog();
  (void)Lower(state_->mapping().tensors.at(tensor).view, start, extent, RowMajorStrides(extent),
              [&](const Region& region) -> Result<> {
                if (region.source == Region::kFill) return {};
                const Tensor& from = catalog.tensors()[region.source];
                const size_t rank = from.shape.size();
                Origin& origin =
                    origins.try_emplace(region.source, Origin{from.name, from.shape, Shape(rank, -1)})
                        .first->second;
                for (size_t dim = 0; dim < rank; ++dim) {
                  const Reach reach = ReachAlong(region, dim);
                  origin.first[dim] = std::min(origin.first[dim], reach.first);
                  origin.last[dim] = std::max(origin.last[dim], reach.last);
                }
                return {};
              });
  std::vector<Origin> list;
  for (auto& [number, origin] : origins) list.push_back(std::move(origin));
  return list;
}

Result<ReadSummary> Checkpoint::Read(std::span<const BoxRead> boxes, const ReadOptions& options,
                                     Reporter& reporter) const {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<NamedView>& tensors = state_->mapping().tensors;
  std::vector<ViewRead> reads;
  for (const BoxRead& box : boxes) {
    RESHARD_TRY(CheckBox(box, tensors));
    const NamedView& tensor = tensors[box.tensor];
    auto view = View::Cast(tensor.view, box.dtype);
    if (!view) {
      view.error().tensor = tensor.name;
      return std::unexpected(std::move(view).error());
    }
    reads.push_back({*std::move(view), box.start, box.extent, box.to, box.strides});
  }
  std::vector<const Check*> checks;
  const auto& all = state_->mapping().checks;
  for (size_t i = options.check_part; options.check_parts > 0 && i < all.size();
       i += options.check_parts)
    checks.push_back(&all[i]);
  RESHARD_ASSIGN(const ViewReadReport report,
                 RunReads(reads, checks, source(), reporter,
                          {.jobs = JobsFor(options.jobs, 0), .cancelled = options.cancelled}));
  // Where the tensors lie in memory there are no files.
  if (!source().root().empty())
    for (uint32_t file : report.files)
      RESHARD_TRY(CheckUnchanged(source().root(), source().catalog().files()[file]));
  ReadSummary summary{.bytes_filled = report.bytes_filled, .bytes_read = report.bytes_read};
  for (size_t i = 0; i < reads.size(); ++i)
    if (report.overflows[i] > 0)
      summary.overflows.emplace_back(tensors[boxes[i].tensor].name, report.overflows[i]);
  summary.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace reshard
