// view_tool: makes the elements of views, for tests/python/test_view_algebra.py. Reads one case a
// line from stdin: tokens that build a view on a stack, then how to read it.
//
//   S DTYPE CHUNKS DIM AT SHAPE  a source; its elements count up where the last source's end.
//                                CHUNKS: 0 one chunk, 1 one transposed, 2 two, cut along DIM at AT,
//                                the second spread out
//   F DTYPE VALUE SHAPE          a fill
//   L DIM START LENGTH           slice
//   C DIM COUNT                  concatenation of the last COUNT views
//   R SHAPE / P DIMS / K DTYPE   reshape, permute, cast
//   D BLOCK                      the last view's elements as the scales of the one before it
//   W STEP START EXTENT          the view is complete
//
// SHAPE and the like: a count, then that many numbers. Writes for each case the view's bytes, made
// in windows of STEP bytes by the engine, and then the bytes of the box at START of size EXTENT,
// lowered as a box: each with its length (uint64) in front.

#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "engine/cast.h"
#include "engine/engine_test_support.h"
#include "engine/window.h"
#include "view/lower.h"

namespace reshard {
namespace {

constexpr int64_t kValues = 2048;  // Every type of the test but the bytes holds these exactly.

class Case {
 public:
  explicit Case(const std::string& line) : tokens_(line), ahead_(line) { AddSources(); }

  // False where the line is no case.
  bool Run() {
    for (std::string op; tokens_ >> op && op != "W";)
      if (!Apply(op)) return false;
    if (!tokens_ || stack_.size() != 1) return false;
    const auto step = static_cast<uint64_t>(Number());
    const Shape start = Numbers(), extent = Numbers();
    return tokens_ && Write(Windows(step)) && Write(Box(start, extent));
  }

 private:
  int64_t Number(std::istream& from) {
    int64_t value = 0;
    from >> value;
    return value;
  }
  Shape Numbers(std::istream& from) {
    Shape numbers(static_cast<size_t>(Number(from)));
    for (int64_t& number : numbers) number = Number(from);
    return numbers;
  }
  DType Type(std::istream& from) {
    std::string name;
    from >> name;
    return ParseDType(name).value();
  }
  int64_t Number() { return Number(tokens_); }
  Shape Numbers() { return Numbers(tokens_); }

  // The sources must be known before the first view can be made.
  void AddSources() {
    for (std::string token; ahead_ >> token;) {
      if (token != "S") continue;
      const DType dtype = Type(ahead_);
      const int64_t chunks = Number(ahead_);
      const auto dim = static_cast<size_t>(Number(ahead_));
      const int64_t at = Number(ahead_);
      const Shape shape = Numbers(ahead_);
      StoredBox first{.start = Shape(shape.size(), 0), .extent = shape, .transposed = chunks == 1};
      std::vector<StoredBox> boxes{first};
      if (chunks == 2) {
        boxes[0].extent[dim] = at;
        boxes.push_back({.start = first.start, .extent = shape, .spread = 2});
        boxes[1].start[dim] = at;
        boxes[1].extent[dim] -= at;
      }
      source_.Add(fmt::format("{:04}", count_++), dtype, shape, Elements(dtype, shape), boxes);
    }
    source_.Open();
    count_ = 0;
  }

  std::string Elements(DType dtype, const Shape& shape) {
    const auto size = static_cast<size_t>(ItemSize(dtype));
    std::string bytes;
    ForEachElement(shape, [&](const Shape&) {
      const int64_t value = next_value_++ % kValues;
      std::string element(reinterpret_cast<const char*>(&value), size);
      if (IsCastable(dtype)) {
        const auto wide = static_cast<double>(value);
        std::vector<std::byte> cast(size);
        if (dtype == DType::kFloat64)
          std::memcpy(cast.data(), &wide, sizeof wide);
        else
          Cast(DType::kFloat64, reinterpret_cast<const std::byte*>(&wide), dtype, cast.data(), 1);
        element.assign(reinterpret_cast<const char*>(cast.data()), size);
      }
      bytes += element;
    });
    return bytes;
  }

  bool Push(Result<View> view) {
    if (!view) {
      fmt::print(stderr, "{}\n", view.error().ToString());
      return false;
    }
    stack_.push_back(*std::move(view));
    return true;
  }

  bool Apply(const std::string& op) {
    if (op == "S") {
      (void)Type(tokens_), (void)Number(), (void)Number(), (void)Number(), (void)Numbers();
      stack_.push_back(source_.Of(fmt::format("{:04}", count_++)));
      return true;
    }
    if (op == "F") {
      const DType dtype = Type(tokens_);
      const auto value = static_cast<double>(Number());
      return Push(View::Fill(dtype, Numbers(), value));
    }
    if (op == "C") {
      const auto dim = static_cast<size_t>(Number());
      const auto parts = stack_.end() - Number();
      std::vector<View> inputs(parts, stack_.end());
      stack_.erase(parts, stack_.end());
      return Push(View::Concat(std::move(inputs), dim));
    }
    const View of = stack_.back();
    stack_.pop_back();
    if (op == "D") {
      const View values = stack_.back();
      stack_.pop_back();
      return Push(View::Dequantize(values, of, Numbers()));
    }
    if (op == "L") {
      const auto dim = static_cast<size_t>(Number());
      const int64_t start = Number();
      return Push(View::Slice(of, dim, start, Number()));
    }
    if (op == "R") return Push(View::Reshape(of, Numbers()));
    if (op == "K") return Push(View::Cast(of, Type(tokens_)));
    const Shape dims = Numbers();
    return op == "P" && Push(View::Permute(of, {dims.begin(), dims.end()}));
  }

  std::string Windows(uint64_t step) const {
    Plan plan;
    plan.files.push_back({.size = stack_[0].byte_size(), .slots = {{.view = stack_[0]}}});
    const std::atomic<bool> never = false;
    const auto layouts = ChunkLayouts::Locate(ChunksOf(plan, source_.catalog()), source_, 1, &never);
    const ChunkIndex index(source_.catalog());
    WindowFiller filler(source_, index, *layouts);
    std::string bytes;
    for (uint64_t begin = 0; begin < plan.files[0].size; begin += step) {
      const auto window =
          filler.Fill(plan.files[0], begin, std::min(plan.files[0].size, begin + step),
                      [](const Slot&, size_t) {});
      bytes.append(reinterpret_cast<const char*>(window->data()), window->size());
    }
    return bytes;
  }

  // What regions say, element by element.
  std::string Box(const Shape& start, const Shape& extent) const {
    const View& view = stack_[0];
    const auto size = static_cast<size_t>(ItemSize(view.dtype()));
    int64_t numel = 1;
    for (int64_t length : extent) numel *= length;
    std::string bytes(static_cast<size_t>(numel) * size, '?');
    (void)Lower(view, start, extent, RowMajorStrides(extent),
                [&](const Region& region) -> Result<> {
                  Shape counters;
                  for (const Loop& loop : region.loops) counters.push_back(loop.extent);
                  ForEachElement(counters, [&](const Shape& turn) {
                    int64_t dst = region.dst;
                    Shape at = region.start;
                    for (size_t i = 0; i < turn.size(); ++i) {
                      dst += turn[i] * region.loops[i].dst_stride;
                      at[region.loops[i].dim] += turn[i] * region.loops[i].step;
                    }
                    bytes.replace(static_cast<size_t>(dst) * size, size,
                                  ElementOf(region, at, view.dtype()));
                  });
                  return {};
                });
    return bytes;
  }

  std::string ElementOf(const Region& region, const Shape& at, DType dtype) const {
    std::string element(static_cast<size_t>(ItemSize(region.source_dtype)), '\0');
    if (region.source == Region::kFill) {
      if (!IsCastable(dtype)) return element;
      element.assign(reinterpret_cast<const char*>(&region.fill), sizeof region.fill);
      return Converted(element, DType::kFloat64, dtype);
    }
    if (region.dequantize) return DequantizedAt(*region.dequantize, at, dtype, source_);
    const Tensor& tensor = source_.catalog().tensors()[region.source];
    const Shape strides = RowMajorStrides(tensor.shape);
    size_t flat = 0;
    for (size_t dim = 0; dim < at.size(); ++dim)
      flat += static_cast<size_t>(at[dim] * strides[dim]);
    element = source_.Elements(tensor.name).substr(flat * element.size(), element.size());
    return Converted(element, tensor.dtype, dtype);
  }

  static std::string Converted(const std::string& element, DType from, DType to) {
    if (from == to) return element;
    std::string out(static_cast<size_t>(ItemSize(to)), '\0');
    Cast(from, reinterpret_cast<const std::byte*>(element.data()), to,
         reinterpret_cast<std::byte*>(out.data()), 1);
    return out;
  }

  static bool Write(const std::string& bytes) {
    const uint64_t length = bytes.size();
    return std::fwrite(&length, sizeof length, 1, stdout) == 1 &&
           std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size();
  }

  std::istringstream tokens_, ahead_;
  FakeSource source_;
  std::vector<View> stack_;
  int count_ = 0;
  int64_t next_value_ = 0;
};

int Main() {
  for (std::string line; std::getline(std::cin, line);) {
    if (Case(line).Run()) continue;
    fmt::print(stderr, "no case: {}\n", line);
    return 2;
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace
}  // namespace reshard

int main() { return reshard::Main(); }
