#include "engine/engine_test_support.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "engine/cast.h"
#include "engine/dequantize.h"
#include "view/lower.h"

namespace reshard {
namespace {

Shape StridesOf(const StoredBox& box) {
  Shape strides(box.extent.size());
  int64_t stride = box.spread;
  for (size_t i = 0; i < strides.size(); ++i) {
    const size_t dim = box.transposed ? i : strides.size() - 1 - i;
    strides[dim] = stride;
    stride *= box.extent[dim];
  }
  return strides;
}

int64_t Flat(const Shape& at, const Shape& strides) {
  int64_t flat = 0;
  for (size_t dim = 0; dim < at.size(); ++dim) flat += at[dim] * strides[dim];
  return flat;
}

// The bytes of one element of a view.
std::string ElementAt(const View& view, Shape at, const FakeSource& source) {
  switch (view.op()) {
    case View::Op::kSource: {
      const Tensor& tensor = source.catalog().tensors()[view.source()];
      const size_t size = static_cast<size_t>(ItemSize(tensor.dtype));
      const size_t flat = static_cast<size_t>(Flat(at, RowMajorStrides(tensor.shape)));
      return source.Elements(tensor.name).substr(flat * size, size);
    }
    case View::Op::kFill:
      return std::string(static_cast<size_t>(ItemSize(view.dtype())), '\0');
    case View::Op::kReshape: {
      const Shape to = RowMajorStrides(view.inputs()[0].shape());
      int64_t flat = Flat(at, RowMajorStrides(view.shape()));
      at.resize(to.size());
      for (size_t dim = 0; dim < to.size(); ++dim) {
        at[dim] = flat / to[dim];
        flat %= to[dim];
      }
      break;
    }
    case View::Op::kPermute: {
      const Shape from = at;
      for (size_t dim = 0; dim < at.size(); ++dim) at[view.dims()[dim]] = from[dim];
      break;
    }
    case View::Op::kRepeat: break;
    case View::Op::kDequantize: return DequantizedAt(view, at, DType::kFloat32, source);
    case View::Op::kSlice:
      at[view.dim()] += view.start();
      break;
    case View::Op::kConcat:
      for (const View& input : view.inputs()) {
        if (at[view.dim()] < input.shape()[view.dim()]) return ElementAt(input, at, source);
        at[view.dim()] -= input.shape()[view.dim()];
      }
      return {};
    case View::Op::kCast: {
      const std::string from = ElementAt(view.inputs()[0], at, source);
      std::string to(static_cast<size_t>(ItemSize(view.dtype())), '\0');
      Cast(view.inputs()[0].dtype(), reinterpret_cast<const std::byte*>(from.data()), view.dtype(),
           reinterpret_cast<std::byte*>(to.data()), 1);
      return to;
    }
  }
  return ElementAt(view.inputs()[0], at, source);
}

}  // namespace

void FakeSource::Add(const std::string& name, DType dtype, const Shape& shape,
                     const std::string& elements) {
  Add(name, dtype, shape, elements, {{.start = Shape(shape.size(), 0), .extent = shape}});
}

void FakeSource::Add(const std::string& name, DType dtype, const Shape& shape,
                     const std::string& elements, const std::vector<StoredBox>& boxes) {
  const size_t size = static_cast<size_t>(ItemSize(dtype));
  const Shape whole = RowMajorStrides(shape);
  elements_[name] = elements;
  additions_.push_back([=](CatalogBuilder& builder) { builder.AddTensor(name, dtype, shape); });
  for (const StoredBox& box : boxes) {
    const Shape strides = StridesOf(box);
    Shape last(box.extent);
    for (int64_t& extent : last) --extent;
    const uint64_t offset = bytes_.size();
    if (std::ranges::find(box.extent, 0) == box.extent.end())
      bytes_.resize(offset + (static_cast<size_t>(Flat(last, strides)) + 1) * size, '#');
    ForEachElement(box.extent, [&](const Shape& at) {
      const size_t to = offset + static_cast<size_t>(Flat(at, strides)) * size;
      const size_t from = static_cast<size_t>(Flat(at, whole) + Flat(box.start, whole)) * size;
      std::memcpy(bytes_.data() + to, elements.data() + from, size);
    });
    const uint64_t length = bytes_.size() - offset;
    layouts_[offset] = {.file = 0, .offset = offset, .strides = strides};
    additions_.push_back([=](CatalogBuilder& builder) {
      builder.AddChunk(box.start, box.extent, box.file, offset, length);
    });
    files_ = std::max(files_, box.file + 1);
    bytes_ += '|';  // No two chunks have one offset.
  }
}

void FakeSource::Open(int64_t mtime_ns) {
  CatalogBuilder builder;
  for (uint32_t file = 0; file < files_; ++file)
    builder.AddFile({.path = "memory", .size = bytes_.size(), .mtime_ns = mtime_ns});
  for (const auto& add : additions_) add(builder);
  catalog_ = *std::move(builder).Build(root_);
}

View FakeSource::Of(const std::string& name) const {
  const Tensor* tensor = catalog_.Find(name);
  return View::Source(static_cast<uint32_t>(tensor - catalog_.tensors().data()), tensor->dtype,
                      tensor->shape);
}

Result<ChunkLayout> FakeSource::Locate(const Tensor& tensor, const Chunk& chunk) const {
  if (on_locate)
    if (auto ok = on_locate(tensor); !ok) return std::unexpected(ok.error());
  return layouts_.at(chunk.offset);
}

Result<> FakeSource::ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const {
  if (on_read)
    if (auto ok = on_read(offset, out.size()); !ok) return ok;
  if (file != 0) return std::unexpected(Error{.found = "no such file"});
  return MemorySource(bytes_).ReadAt(offset, out);
}

void ForEachElement(const Shape& shape, const std::function<void(const Shape&)>& visit) {
  int64_t total = 1;
  for (int64_t extent : shape) total *= extent;
  Shape at(shape.size(), 0);
  for (int64_t i = 0; i < total; ++i) {
    visit(at);
    for (size_t dim = shape.size(); dim-- > 0;) {
      if (++at[dim] < shape[dim]) break;
      at[dim] = 0;
    }
  }
}

std::string DequantizedAt(const View& dequantize, const Shape& at, DType to,
                          const FakeSource& source) {
  const View &values = dequantize.inputs()[0], &scales = dequantize.inputs()[1];
  const auto number = [&](const View& view, const Shape& place) {
    const std::string element = ElementAt(view, place, source);
    const auto* bytes = reinterpret_cast<const std::byte*>(element.data());
    float value = 0;
    if (IsCastable(view.dtype()))
      Cast(view.dtype(), bytes, DType::kFloat32, reinterpret_cast<std::byte*>(&value), 1);
    else
      value = Float8Values(view.dtype())[std::to_integer<size_t>(*bytes)];
    return value;
  };
  Shape scale_at(scales.shape().size(), 0);
  if (scales.byte_size() != static_cast<uint64_t>(ItemSize(scales.dtype())))
    for (size_t dim = 0; dim < at.size(); ++dim) scale_at[dim] = at[dim] / dequantize.block()[dim];
  const float product = number(values, at) * number(scales, scale_at);
  std::string element(static_cast<size_t>(ItemSize(to)), '\0');
  Cast(DType::kFloat32, reinterpret_cast<const std::byte*>(&product), to,
       reinterpret_cast<std::byte*>(element.data()), 1);
  return element;
}

std::string Materialize(const View& view, const FakeSource& source) {
  // The whole of a large source, at once.
  if (view.op() == View::Op::kSource)
    return source.Elements(source.catalog().tensors()[view.source()].name);
  std::string bytes;
  ForEachElement(view.shape(), [&](const Shape& at) { bytes += ElementAt(view, at, source); });
  return bytes;
}

std::string Expected(const FilePlan& file, const FakeSource& source) {
  std::string bytes(file.size, '?');
  for (const Literal& literal : file.literals)
    bytes.replace(literal.offset, literal.bytes.size(), literal.bytes);
  for (const Slot& slot : file.slots)
    bytes.replace(slot.offset, slot.byte_size(), Materialize(slot.view, source));
  return bytes;
}

std::string Noise(size_t count, uint32_t seed) {
  std::minstd_rand random(seed + 1);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random() >> 8);
  return bytes;
}

}  // namespace reshard
