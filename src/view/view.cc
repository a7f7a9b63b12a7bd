#include "view/view.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "base/checked_math.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

Error ViewError(std::string found, std::string expected) {
  return Error{
      .kind = ErrorKind::kMapping, .found = std::move(found), .expected = std::move(expected)};
}

}  // namespace

View::View(Node node) : node_(std::make_shared<const Node>(std::move(node))) {}

std::span<const size_t> View::dims() const { return node_->lists->dims; }
std::span<const int64_t> View::starts() const { return node_->lists->starts; }
std::span<const int64_t> View::block() const { return node_->lists->block; }

std::span<const View> View::inputs() const {
  if (node_->input.node_) return {&node_->input, 1};
  return node_->lists ? std::span<const View>(node_->lists->inputs) : std::span<const View>();
}

View View::Source(uint32_t tensor, DType dtype, Shape shape) {
  return View(Node{.op = Op::kSource, .dtype = dtype, .source = tensor, .shape = std::move(shape)});
}

Result<View> View::Fill(DType dtype, Shape shape, double value) {
  if (!CheckedNumel(shape))
    return std::unexpected(
        ViewError(fmt::format("a fill of shape {}", ShapeText(shape)), "less than 63 bits"));
  if (value != 0 && !IsCastable(dtype))
    return std::unexpected(ViewError(fmt::format("a fill of {} in {}", value, DTypeName(dtype)),
                                     "zero, or a type among float16, bfloat16, float32, float64"));
  return View(Node{.op = Op::kFill, .dtype = dtype, .value = value, .shape = std::move(shape)});
}

Result<View> View::Slice(const View& of, size_t dim, int64_t start, int64_t length) {
  const Shape& shape = of.shape();
  if (dim >= shape.size())
    return std::unexpected(ViewError(fmt::format("a slice of dimension {}", dim),
                                     fmt::format("a dimension of {}", ShapeText(shape))));
  if (start < 0 || length < 0 || start > shape[dim] || length > shape[dim] - start)
    return std::unexpected(
        ViewError(fmt::format("a slice of {} elements from {}", length, start),
                  fmt::format("a part of the {} along dimension {}", shape[dim], dim)));
  if (length == shape[dim]) return of;
  if (of.op() == Op::kSlice && of.dim() == dim)
    return Slice(of.inputs()[0], dim, of.start() + start, length);
  if (of.op() == Op::kConcat && of.dim() == dim && length > 0) {
    // What lies in one part needs no other.
    const auto starts = of.starts();
    const auto part = std::ranges::upper_bound(starts, start) - starts.begin() - 1;
    const View& input = of.inputs()[part];
    if (start + length <= starts[part] + input.shape()[dim])
      return Slice(input, dim, start - starts[part], length);
  }
  Shape sliced = shape;
  sliced[dim] = length;
  return View(Node{.op = Op::kSlice,
                   .dtype = of.dtype(),
                   .casts = of.node_->casts,
                   .dim = dim,
                   .start = start,
                   .shape = std::move(sliced),
                   .input = of});
}

Result<View> View::Concat(std::vector<View> parts, size_t dim) {
  if (parts.empty() || dim >= parts[0].shape().size())
    return std::unexpected(
        ViewError(parts.empty() ? "a concatenation of nothing"
                                : fmt::format("a concatenation along dimension {}", dim),
                  parts.empty() ? "at least one part" : "a dimension that the parts have"));
  if (parts.size() == 1) return parts[0];
  Shape shape = parts[0].shape();
  bool casts = false;
  std::vector<int64_t> starts;
  int64_t end = 0;
  for (const View& part : parts) {
    Shape rest = part.shape();
    if (rest.size() == shape.size()) rest[dim] = shape[dim];
    if (rest != shape || part.dtype() != parts[0].dtype())
      return std::unexpected(
          ViewError(fmt::format("a part {} {}", DTypeName(part.dtype()), ShapeText(part.shape())),
                    fmt::format("parts like {} {} but for dimension {}",
                                DTypeName(parts[0].dtype()), ShapeText(shape), dim)));
    starts.push_back(end);
    const auto next = CheckedAdd(end, part.shape()[dim]);
    if (!next) return std::unexpected(ViewError("a concatenation beyond 63 bits", "less"));
    end = *next;
    casts |= part.node_->casts;
  }
  shape[dim] = end;
  if (!CheckedNumel(shape))
    return std::unexpected(ViewError("a concatenation beyond 63 bits", "less"));
  const DType dtype = parts[0].dtype();
  return View(Node{.op = Op::kConcat,
                   .dtype = dtype,
                   .casts = casts,
                   .dim = dim,
                   .shape = std::move(shape),
                   .lists = std::make_shared<const Lists>(
                       Lists{.inputs = std::move(parts), .starts = std::move(starts)})});
}

Result<View> View::Reshape(const View& of, Shape shape) {
  if (shape == of.shape()) return of;
  if (CheckedNumel(shape) != CheckedNumel(of.shape()))
    return std::unexpected(ViewError(
        fmt::format("{} as {}", ShapeText(of.shape()), ShapeText(shape)), "as many elements"));
  if (of.op() == Op::kReshape) return Reshape(of.inputs()[0], std::move(shape));
  return View(Node{.op = Op::kReshape,
                   .dtype = of.dtype(),
                   .casts = of.node_->casts,
                   .shape = std::move(shape),
                   .input = of});
}

Result<View> View::Permute(const View& of, std::vector<size_t> dims) {
  std::vector<size_t> sorted = dims, all(of.shape().size());
  std::iota(all.begin(), all.end(), size_t{0});
  std::ranges::sort(sorted);
  if (sorted != all)
    return std::unexpected(
        ViewError(fmt::format("dimensions in the order [{}]", fmt::join(dims, ", ")),
                  fmt::format("each of the {} dimensions once", all.size())));
  if (dims == all) return of;
  Shape shape;
  for (size_t dim : dims) shape.push_back(of.shape()[dim]);
  return View(Node{.op = Op::kPermute,
                   .dtype = of.dtype(),
                   .casts = of.node_->casts,
                   .shape = std::move(shape),
                   .input = of,
                   .lists = std::make_shared<const Lists>(Lists{.dims = std::move(dims)})});
}

View View::Repeat(const View& of) {
  if (of.op() == Op::kRepeat) return of;
  return View(Node{.op = Op::kRepeat,
                   .dtype = of.dtype(),
                   .casts = of.node_->casts,
                   .shape = of.shape(),
                   .input = of});
}

Result<View> View::Cast(const View& of, DType dtype) {
  if (of.dtype() == dtype) return of;
  if (!IsCastable(of.dtype()) || !IsCastable(dtype)) {
    Error error =
        ViewError(fmt::format("a cast from {} to {}", DTypeName(of.dtype()), DTypeName(dtype)),
                  "types among float16, bfloat16, float32 and float64");
    if (IsFloat8(of.dtype())) error.help = "--dequantize multiplies the values with their scales";
    return std::unexpected(std::move(error));
  }
  if (of.node_->casts)
    return std::unexpected(ViewError("a cast of a cast", "one cast between source and target"));
  return View(
      Node{.op = Op::kCast, .dtype = dtype, .casts = true, .shape = of.shape(), .input = of});
}

Result<View> View::Dequantize(const View& values, const View& scales, Shape block) {
  if (values.op() != Op::kSource || scales.op() != Op::kSource)
    return std::unexpected(ViewError("a view of values or scales", "whole tensors of the source"));
  if (!IsFloat8(values.dtype()) || !IsScale(scales.dtype()))
    return std::unexpected(ViewError(
        fmt::format("{} values with {} scales", DTypeName(values.dtype()),
                    DTypeName(scales.dtype())),
        "a float8 type with scales of float32, bfloat16, float16 or float8_e8m0fnu"));
  const Shape& shape = values.shape();
  const auto numel = CheckedNumel(shape);
  if (!numel || *numel > INT64_MAX / ItemSize(DType::kFloat32))
    return std::unexpected(ViewError("a tensor beyond 63 bits", "less"));
  bool fits = block.size() == shape.size();
  Shape grid;
  for (size_t dim = 0; fits && dim < shape.size(); ++dim) {
    fits = block[dim] > 0;
    if (fits) grid.push_back(shape[dim] / block[dim] + (shape[dim] % block[dim] != 0));
  }
  const bool one = fits && CheckedNumel(grid) == 1 && CheckedNumel(scales.shape()) == 1;
  if (!fits || (grid != scales.shape() && !one))
    return std::unexpected(
        ViewError(fmt::format("scales {} for values {} in blocks of {}", ShapeText(scales.shape()),
                              ShapeText(shape), ShapeText(block)),
                  fits ? fmt::format("scales {}", ShapeText(grid))
                       : "a block of one element or more along each dimension"));
  return View(Node{.op = Op::kDequantize,
                   .dtype = DType::kFloat32,
                   .shape = shape,
                   .lists = std::make_shared<const Lists>(
                       Lists{.inputs = {values, scales}, .block = std::move(block)})});
}

uint64_t View::byte_size() const {
  auto size = static_cast<uint64_t>(ItemSize(dtype()));
  for (int64_t extent : shape()) size *= static_cast<uint64_t>(extent);
  return size;
}

std::string View::ToString(const Catalog& catalog) const {
  std::string text;
  AppendTo(&text, catalog);
  return text;
}

void View::AppendTo(std::string* text, const Catalog& catalog) const {
  const auto end = std::back_inserter(*text);
  switch (op()) {
    case Op::kSource:
      *text += '"';
      *text += catalog.tensors()[source()].name;
      *text += '"';
      return;
    case Op::kFill:
      fmt::format_to(end, "fill({}, {})", ShapeText(shape()), value());
      return;
    case Op::kConcat:
      fmt::format_to(end, "concat(dim={}", dim());
      for (const View& input : inputs()) {
        *text += ", ";
        input.AppendTo(text, catalog);
      }
      *text += ')';
      return;
    case Op::kReshape:
      *text += "reshape(";
      inputs()[0].AppendTo(text, catalog);
      fmt::format_to(end, ", {})", ShapeText(shape()));
      return;
    case Op::kPermute:
      *text += "permute(";
      inputs()[0].AppendTo(text, catalog);
      fmt::format_to(end, ", [{}])", fmt::join(dims(), ", "));
      return;
    case Op::kRepeat:
      *text += "repeat(";
      inputs()[0].AppendTo(text, catalog);
      *text += ')';
      return;
    case Op::kSlice:
      *text += "slice(";
      inputs()[0].AppendTo(text, catalog);
      fmt::format_to(end, ", dim={}, start={}, length={})", dim(), start(), shape()[dim()]);
      return;
    case Op::kCast:
      *text += "cast(";
      inputs()[0].AppendTo(text, catalog);
      fmt::format_to(end, ", {})", DTypeName(dtype()));
      return;
    case Op::kDequantize:
      *text += "dequantize(";
      inputs()[0].AppendTo(text, catalog);
      *text += ", ";
      inputs()[1].AppendTo(text, catalog);
      fmt::format_to(end, ", {})", ShapeText(block()));
      return;
  }
}

}  // namespace reshard
