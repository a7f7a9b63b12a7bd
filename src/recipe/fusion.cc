#include "recipe/fusion.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>

#include "base/try.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

Error FusionError(std::string found) {
  return Error{.kind = ErrorKind::kUsage,
               .found = std::move(found),
               .expected = "the same axes on both sides of a map"};
}

bool IsOne(const Axis& axis) { return axis.number == 1; }

}  // namespace

// What stands in the place of the whole's axis in one part.
Axis Fusion::AxisOfPart(const Axis& axis, size_t index) const {
  if (!axis.parts.empty()) return axis.parts[index];
  if (!stacked_.empty() && axis.name == stacked_) return Axis{.name = {}, .number = 1};
  return axis;
}

Result<Fusion> Fusion::Parse(const std::vector<std::string>& parts, std::string_view whole,
                             std::string_view stacked) {
  Fusion fusion;
  fusion.stacked_ = stacked;
  RESHARD_ASSIGN(fusion.whole_, Axes::Parse(whole));
  fusion.flat_ = fusion.whole_.Flat();
  for (size_t i = 0; i < fusion.flat_.size(); ++i) {
    if (!fusion.flat_[i].parts.empty()) fusion.join_ = i;
    if (!stacked.empty() && fusion.flat_[i].name == stacked) fusion.stack_ = i;
  }
  if (!stacked.empty() && fusion.stack_ == SIZE_MAX)
    return std::unexpected(FusionError(fmt::format("'{}' has no axis '{}'", whole, stacked)));
  const size_t joined = fusion.join_ == SIZE_MAX ? 1 : fusion.flat_[fusion.join_].parts.size();
  if (joined != parts.size())
    return std::unexpected(
        FusionError(fmt::format("{} tensors for the {} parts of '{}'", parts.size(), joined, whole)));

  for (size_t index = 0; index < parts.size(); ++index) {
    std::string_view text = parts[index];
    Part part;
    part.zero = text.starts_with("zero ");
    if (part.zero) text.remove_prefix(5);
    if (part.zero && index == 0)
      return std::unexpected(FusionError(fmt::format("'{}' comes first", parts[0])));
    RESHARD_ASSIGN(part.axes, Axes::Parse(text));
    const std::vector<Axis> own = part.axes.Flat();
    std::vector<bool> used(own.size(), false);
    for (size_t i = 0; i < fusion.flat_.size(); ++i) {
      const Axis wanted = fusion.AxisOfPart(fusion.flat_[i], index);
      size_t at = 0;
      while (at < own.size() && (used[at] || own[at] != wanted)) ++at;
      if (at < own.size()) {
        used[at] = true;
        part.order.push_back(at);
      } else if (IsOne(wanted)) {
        part.absent.push_back(i);
      } else {
        return std::unexpected(FusionError(fmt::format(
            "'{}' lacks the axis '{}' of '{}'", text,
            wanted.name.empty() ? fmt::to_string(wanted.number) : wanted.name, whole)));
      }
    }
    if (part.order.size() != own.size() || part.axes.rest() != fusion.whole_.rest())
      return std::unexpected(
          FusionError(fmt::format("'{}' has an axis that '{}' has not", text, whole)));
    fusion.parts_.push_back(std::move(part));
  }
  return fusion;
}

// One dimension an axis of the whole; those that the part has not are 1.
Result<View> Fusion::OpenPart(const Part& part, size_t index, const View& view,
                              const Sizes& sizes) const {
  RESHARD_ASSIGN(const View open, part.axes.Open(view, sizes));
  std::vector<size_t> dims = part.order;
  for (size_t dim = dims.size(); dim < open.shape().size(); ++dim) dims.push_back(dim);
  RESHARD_ASSIGN(const View ordered, View::Permute(open, std::move(dims)));
  Shape shape;
  for (const Axis& axis : flat_) shape.push_back(SizeOf(AxisOfPart(axis, index), sizes).value_or(0));
  for (size_t dim = part.order.size(); dim < ordered.shape().size(); ++dim)
    shape.push_back(ordered.shape()[dim]);
  return View::Reshape(ordered, std::move(shape));
}

Result<View> Fusion::Fuse(const std::vector<std::vector<View>>& tensors, Sizes sizes) const {
  // Sizes are solved from all parts before any is taken apart: one may know what another needs.
  for (int round = 0; round < 2; ++round) {
    size_t stored = 0;
    for (const Part& part : parts_) {
      if (part.zero) continue;
      auto solved = part.axes.Solve(tensors[0][stored++].shape(), &sizes);
      if (!solved && round == 1) return std::unexpected(std::move(solved).error());
    }
  }
  if (stack_ != SIZE_MAX) {
    const auto [at, fresh] = sizes.emplace(stacked_, std::ssize(tensors));
    if (at->second != std::ssize(tensors))
      return std::unexpected(
          Error{.kind = ErrorKind::kMapping,
                .found = fmt::format("{} tensors along the axis '{}'", tensors.size(), stacked_),
                .expected = fmt::format("{}, as the model's config.json says", at->second),
                .help = "is a file of the source missing?"});
  }
  std::vector<View> stack;
  for (const std::vector<View>& place : tensors) {
    std::vector<View> joined;
    size_t stored = 0;
    for (size_t index = 0; index < parts_.size(); ++index) {
      const Part& part = parts_[index];
      if (part.zero) {
        Shape shape;
        for (const Axis& axis : flat_)
          shape.push_back(SizeOf(AxisOfPart(axis, index), sizes).value_or(0));
        const Shape& like = joined.empty() ? place[0].shape() : joined[0].shape();
        for (size_t dim = flat_.size(); dim < like.size(); ++dim) shape.push_back(like[dim]);
        RESHARD_ASSIGN(View zero, View::Fill(place[0].dtype(), std::move(shape)));
        joined.push_back(std::move(zero));
        continue;
      }
      const View& view = place[stored++];
      Sizes own = sizes;
      RESHARD_TRY(part.axes.Solve(view.shape(), &own));
      RESHARD_ASSIGN(View open, OpenPart(part, index, view, own));
      joined.push_back(std::move(open));
    }
    if (join_ == SIZE_MAX) {
      stack.push_back(std::move(joined[0]));
    } else {
      RESHARD_ASSIGN(View whole, View::Concat(std::move(joined), join_));
      stack.push_back(std::move(whole));
    }
  }
  if (stack_ == SIZE_MAX) return whole_.Close(stack[0]);
  RESHARD_ASSIGN(const View whole, View::Concat(std::move(stack), stack_));
  return whole_.Close(whole);
}

Result<std::vector<std::vector<View>>> Fusion::Split(const View& whole, Sizes sizes) const {
  RESHARD_TRY(whole_.Solve(whole.shape(), &sizes));
  RESHARD_ASSIGN(const View open, whole_.Open(whole, sizes));
  const int64_t places = stack_ == SIZE_MAX ? 1 : open.shape()[stack_];
  std::vector<std::vector<View>> tensors;
  for (int64_t place = 0; place < places; ++place) {
    View at = open;
    if (stack_ != SIZE_MAX) {
      RESHARD_ASSIGN(at, View::Slice(open, stack_, place, 1));
    }
    std::vector<View> parts;
    int64_t start = 0;
    for (size_t index = 0; index < parts_.size(); ++index) {
      const Part& part = parts_[index];
      View view = at;
      if (join_ != SIZE_MAX) {
        const int64_t length = SizeOf(flat_[join_].parts[index], sizes).value_or(0);
        RESHARD_ASSIGN(view, View::Slice(at, join_, start, length));
        start += length;
      }
      // Without the axes that it has not, and in its own order.
      Shape shape;
      for (size_t dim = 0; dim < view.shape().size(); ++dim)
        if (std::ranges::find(part.absent, dim) == part.absent.end())
          shape.push_back(view.shape()[dim]);
      std::vector<size_t> dims(shape.size());
      std::iota(dims.begin(), dims.end(), size_t{0});
      for (size_t i = 0; i < part.order.size(); ++i) dims[part.order[i]] = i;
      RESHARD_ASSIGN(view, View::Reshape(view, std::move(shape)));
      RESHARD_ASSIGN(view, View::Permute(view, std::move(dims)));
      RESHARD_ASSIGN(view, part.axes.Close(view));
      parts.push_back(std::move(view));
    }
    tensors.push_back(std::move(parts));
  }
  return tensors;
}

}  // namespace reshard
