#include "plan/planner.h"

#include <algorithm>
#include <numeric>

#include "base/try.h"
#include "recipe/quantized.h"

namespace reshard {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The run of digits at the start of `text`, without leading zeros.
std::string_view Number(std::string_view text, size_t* length) {
  size_t end = 0;
  while (end < text.size() && IsDigit(text[end])) ++end;
  *length = end;
  size_t begin = 0;
  while (begin + 1 < end && text[begin] == '0') ++begin;
  return text.substr(begin, end - begin);
}

// Why a tensor is not cast with all the others; empty where it is.
std::string_view WhyKept(const CastRules& rules, const QuantizedModules& quantized,
                         std::string_view name) {
  if (quantized.ScaledBy(name)) return "scales of quantized weights";
  if (std::ranges::any_of(rules.keep,
                          [&](const Pattern& pattern) { return pattern.Match(name).has_value(); }))
    return "the model computes with it in its own type";
  return {};
}

}  // namespace

bool Uses(const View& view, View::Op op) {
  return view.op() == op ||
         std::ranges::any_of(view.inputs(), [&](const View& input) { return Uses(input, op); });
}

uint64_t Slot::byte_size() const { return view.byte_size(); }

uint64_t Plan::total_bytes() const {
  uint64_t total = 0;
  for (const FilePlan& file : files) total += file.size;
  return total;
}

uint64_t Plan::checked_bytes() const {
  uint64_t total = 0;
  for (const Check& check : checks) total += check.view.byte_size();
  return total;
}

bool NaturalLess(std::string_view a, std::string_view b) {
  const std::string_view whole_a = a, whole_b = b;
  while (!a.empty() && !b.empty()) {
    if (IsDigit(a[0]) && IsDigit(b[0])) {
      size_t length_a, length_b;
      const std::string_view number_a = Number(a, &length_a), number_b = Number(b, &length_b);
      if (number_a.size() != number_b.size()) return number_a.size() < number_b.size();
      if (number_a != number_b) return number_a < number_b;
      a.remove_prefix(length_a);
      b.remove_prefix(length_b);
      continue;
    }
    if (a[0] != b[0]) return static_cast<unsigned char>(a[0]) < static_cast<unsigned char>(b[0]);
    a.remove_prefix(1);
    b.remove_prefix(1);
  }
  if (a.empty() != b.empty()) return a.empty();
  return whole_a < whole_b;  // They differ at most in leading zeros.
}

Result<> ApplyCasts(const CastRules& rules, Mapping* mapping) {
  const QuantizedModules quantized(mapping->tensors);
  for (NamedView& tensor : mapping->tensors) {
    if (!IsCastable(tensor.view.dtype())) continue;
    std::optional<DType> target;
    for (const auto& [regex, dtype] : rules.overrides) {
      RESHARD_ASSIGN(const bool found, regex.Search(tensor.name));
      if (!found) continue;
      target = dtype;
      break;
    }
    if (!target && rules.all) {
      const std::string_view why =
          rules.all == tensor.view.dtype() ? "" : WhyKept(rules, quantized, tensor.name);
      if (!why.empty()) {
        ++mapping->kept_types[std::string(why)];
        continue;
      }
      target = rules.all;
    }
    if (!target && rules.dequantized && Uses(tensor.view, View::Op::kDequantize))
      target = rules.dequantized;
    if (!target) continue;
    RESHARD_ASSIGN(tensor.view, View::Cast(tensor.view, *target));
  }
  return {};
}

std::vector<FileContent> PackFiles(const std::vector<NamedView>& tensors, Packing packing,
                                   uint64_t max_bytes) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, [&](size_t a, size_t b) {
    return packing == Packing::kNatural ? NaturalLess(tensors[a].name, tensors[b].name)
                                        : tensors[a].name < tensors[b].name;
  });
  std::vector<FileContent> files;
  uint64_t used = 0;
  for (size_t index : order) {
    const uint64_t size = tensors[index].view.byte_size();
    // The sum cannot wrap: each size fits in 63 bits.
    if (files.empty() || (!files.back().empty() && used + size > max_bytes)) {
      files.emplace_back();
      used = 0;
    }
    files.back().push_back(index);
    used += size;
  }
  return files;
}

FilePlan FillSlots(std::string path, FileLayout layout, const FileContent& content,
                     const std::vector<NamedView>& tensors) {
  FilePlan file{.path = std::move(path),
                .size = layout.size,
                .literals = std::move(layout.literals),
                .late_crcs = std::move(layout.late_crcs)};
  file.slots.reserve(content.size());
  for (size_t i = 0; i < content.size(); ++i) {
    const NamedView& tensor = tensors[content[i]];
    file.slots.push_back(
        {.name = tensor.name, .offset = layout.slots[i], .view = tensor.view});
  }
  // Empty tensors first, so that the tensor that covers a byte is the last to begin before it.
  std::ranges::sort(file.slots, [](const Slot& a, const Slot& b) {
    return std::pair(a.offset, a.byte_size()) < std::pair(b.offset, b.byte_size());
  });
  return file;
}

FilePlan TextFile(std::string path, std::string bytes) {
  const uint64_t size = bytes.size();
  return {.path = std::move(path), .size = size, .literals = {{0, std::move(bytes)}}};
}

}  // namespace reshard
