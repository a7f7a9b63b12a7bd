#include "engine/check_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/endian.h"
#include "base/try.h"
#include "engine/cast.h"
#include "view/lower.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

FilePlan FileOf(const std::string& name, const View& view) {
  return {.size = view.byte_size(), .slots = {{.name = name, .offset = 0, .view = view}}};
}

std::string HexText(std::span<const std::byte> bytes) {
  std::string text = "0x";
  for (size_t i = bytes.size(); i-- > 0;)
    text += fmt::format("{:02x}", static_cast<unsigned>(bytes[i]));
  return text;
}

// One element: its bits, and its value where it has one that people read.
std::string ValueText(std::span<const std::byte> bytes, DType dtype) {
  if (!IsCastable(dtype)) return HexText(bytes);
  std::array<std::byte, 8> wide{};
  Cast(dtype, bytes.data(), DType::kFloat64, wide.data(), 1);
  return fmt::format("{} ({})", std::bit_cast<double>(LoadLittle<uint64_t>(wide.data())),
                     HexText(bytes));
}

// Where an element of a view lies in the source.
struct Place {
  std::string text;
  std::string file;
};

Place PlaceOf(const View& view, std::span<const int64_t> at, const Source& source) {
  const Catalog& catalog = source.catalog();
  const Shape one(at.size(), 1);
  Place place;
  (void)Lower(view, at, one, one, [&](const Region& region) -> Result<> {
    if (region.source == Region::kFill) {
      place.text = "what the recipe fills in";
      return {};
    }
    const Tensor& tensor = catalog.tensors()[region.source];
    place.text = fmt::format("element {} of '{}'", ShapeText(region.start), tensor.name);
    for (const Chunk& chunk : catalog.chunks(tensor)) {
      const BoxView box = catalog.Box(tensor, chunk);
      bool holds = true;
      for (size_t dim = 0; dim < box.start.size(); ++dim)
        holds &= region.start[dim] >= box.start[dim] &&
                 region.start[dim] < box.start[dim] + box.extent[dim];
      if (!holds) continue;
      const std::filesystem::path file = catalog.files()[chunk.file].path;
      place.file = (std::filesystem::path(source.root()) / file).string();
      break;
    }
    return {};
  });
  return place;
}

}  // namespace

CheckJob::CheckJob(const Check& check)
    : check_(check),
      view_(FileOf(check.name, check.view)),
      equals_(FileOf(check.name, check.equals)) {
  const auto item = static_cast<uint64_t>(ItemSize(check.view.dtype()));
  window_bytes_ = kWindowBytes / item * item;
}

uint64_t CheckJob::block_count() const {
  return view_.size / block_bytes() + (view_.size % block_bytes() != 0);
}

Result<> CheckJob::CompareBlock(uint64_t block, const Tools& tools) const {
  const OverflowFn ignored = [](const Slot&, size_t) {};
  const uint64_t block_end = std::min(view_.size, (block + 1) * block_bytes());
  std::vector<std::byte> left_out(window_bytes_);
  for (uint64_t begin = block * block_bytes(), end; begin < block_end; begin = end) {
    if (tools.stop) return {};
    end = std::min(block_end, begin + window_bytes_);
    RESHARD_ASSIGN(std::span<const std::byte> bytes, tools.filler.Fill(view_, begin, end, ignored));
    std::ranges::copy(bytes, left_out.begin());
    const auto found = std::span<const std::byte>(left_out).first(bytes.size());
    RESHARD_ASSIGN(const auto wanted, tools.filler.Fill(equals_, begin, end, ignored));
    if (std::memcmp(found.data(), wanted.data(), found.size()) != 0) {
      const auto differs = std::ranges::mismatch(found, wanted).in1 - found.begin();
      const size_t item = static_cast<size_t>(ItemSize(check_.view.dtype()));
      const size_t first = static_cast<size_t>(differs) / item * item;
      return std::unexpected(Difference(static_cast<int64_t>((begin + first) / item),
                                        found.subspan(first, item), wanted.subspan(first, item),
                                        tools.source));
    }
    tools.bytes_done += found.size();
  }
  return {};
}

Error CheckJob::Difference(int64_t element, std::span<const std::byte> found,
                           std::span<const std::byte> expected, const Source& source) const {
  const DType dtype = check_.view.dtype();
  std::vector<int64_t> at;
  for (int64_t stride : RowMajorStrides(check_.view.shape())) {
    at.push_back(element / stride);
    element %= stride;
  }
  Place here = PlaceOf(check_.view, at, source);
  const Place there = PlaceOf(check_.equals, at, source);
  const std::string of = there.file.empty() ? there.text : there.text + " in " + there.file;
  return Error{
      .kind = ErrorKind::kSource,
      .file = std::move(here.file),
      .tensor = check_.name,
      .found = fmt::format("{} is {}", here.text, ValueText(found, dtype)),
      .expected = fmt::format("equal to {}, {}: {}", ValueText(expected, dtype), of, check_.why),
      .help =
          "leaving it out would lose data: the files may be of different saves, or "
          "the recipe does not fit this checkpoint"};
}

}  // namespace reshard
