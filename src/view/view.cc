#include "view/view.h"

#include <fmt/format.h>

#include <algorithm>
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

View View::Source(uint32_t tensor, DType dtype, Shape shape) {
  return View(Node{.op = Op::kSource, .dtype = dtype, .shape = std::move(shape), .source = tensor});
}

Result<View> View::Fill(DType dtype, Shape shape, double value) {
  if (!CheckedNumel(shape))
    return std::unexpected(
        ViewError(fmt::format("a fill of shape {}", ShapeText(shape)), "less than 63 bits"));
  if (value != 0 && !IsCastable(dtype))
    return std::unexpected(ViewError(fmt::format("a fill of {} in {}", value, DTypeName(dtype)),
                                     "zero, or a type among float16, bfloat16, float32, float64"));
  return View(Node{.op = Op::kFill, .dtype = dtype, .shape = std::move(shape), .value = value});
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
                   .shape = std::move(sliced),
                   .dim = dim,
                   .casts = of.node_->casts,
                   .inputs = {of},
                   .starts = {start}});
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
                   .shape = std::move(shape),
                   .dim = dim,
                   .casts = casts,
                   .inputs = std::move(parts),
                   .starts = std::move(starts)});
}

Result<View> View::Reshape(const View& of, Shape shape) {
  if (shape == of.shape()) return of;
  if (CheckedNumel(shape) != CheckedNumel(of.shape()))
    return std::unexpected(ViewError(
        fmt::format("{} as {}", ShapeText(of.shape()), ShapeText(shape)), "as many elements"));
  if (of.op() == Op::kReshape) return Reshape(of.inputs()[0], std::move(shape));
  return View(Node{.op = Op::kReshape,
                   .dtype = of.dtype(),
                   .shape = std::move(shape),
                   .casts = of.node_->casts,
                   .inputs = {of}});
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
                   .shape = std::move(shape),
                   .casts = of.node_->casts,
                   .inputs = {of},
                   .dims = std::move(dims)});
}

View View::Repeat(const View& of) {
  return View(Node{.op = Op::kRepeat,
                   .dtype = of.dtype(),
                   .shape = of.shape(),
                   .casts = of.node_->casts,
                   .inputs = {of}});
}

Result<View> View::Cast(const View& of, DType dtype) {
  if (of.dtype() == dtype) return of;
  if (!IsCastable(of.dtype()) || !IsCastable(dtype))
    return std::unexpected(
        ViewError(fmt::format("a cast from {} to {}", DTypeName(of.dtype()), DTypeName(dtype)),
                  "types among float16, bfloat16, float32 and float64"));
  if (of.node_->casts)
    return std::unexpected(ViewError("a cast of a cast", "one cast between source and target"));
  return View(
      Node{.op = Op::kCast, .dtype = dtype, .shape = of.shape(), .casts = true, .inputs = {of}});
}

uint64_t View::byte_size() const {
  auto size = static_cast<uint64_t>(ItemSize(dtype()));
  for (int64_t extent : shape()) size *= static_cast<uint64_t>(extent);
  return size;
}

std::string View::ToString(const Catalog& catalog) const {
  switch (op()) {
    case Op::kSource:
      return fmt::format("\"{}\"", catalog.tensors()[source()].name);
    case Op::kFill:
      return fmt::format("fill({}, {})", ShapeText(shape()), value());
    case Op::kReshape:
      return fmt::format("reshape({}, {})", inputs()[0].ToString(catalog), ShapeText(shape()));
    case Op::kPermute:
      return fmt::format("permute({}, [{}])", inputs()[0].ToString(catalog),
                         fmt::join(dims(), ", "));
    case Op::kRepeat: return fmt::format("repeat({})", inputs()[0].ToString(catalog));
    case Op::kSlice:
      return fmt::format("slice({}, dim={}, start={}, length={})", inputs()[0].ToString(catalog),
                         dim(), start(), shape()[dim()]);
    case Op::kConcat: {
      std::string text = fmt::format("concat(dim={}", dim());
      for (const View& input : inputs()) text += ", " + input.ToString(catalog);
      return text + ")";
    }
    case Op::kCast:
      return fmt::format("cast({}, {})", inputs()[0].ToString(catalog), DTypeName(dtype()));
  }
  return {};
}

}  // namespace reshard
