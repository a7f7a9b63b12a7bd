#include "formats/torch_save/archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "base/checked_math.h"
#include "base/try.h"
#include "formats/torch_save/legacy.h"
#include "formats/torch_save/storage.h"
#include "formats/torch_save/summary.h"
#include "formats/torch_save/tensor.h"
#include "formats/torch_save/zip_records.h"

namespace reshard::torch_save {
namespace {

using pickle::Value;

constexpr std::string_view kZipMagic = "PK\3\4";
constexpr uint64_t kTarMagicOffset = 257;

// Values of objects that are looked through for tensors: a pickle may hold one value in many places.
constexpr uint64_t kMaxSearched = 100'000'000;

Result<> CheckNames(const Archive& archive, const std::string& file) {
  std::vector<std::string_view> names;
  names.reserve(archive.tensors.size() + archive.unreadable.size() + archive.objects.size());
  for (const TensorLeaf& leaf : archive.tensors) names.push_back(leaf.name);
  for (const UnreadableLeaf& leaf : archive.unreadable) names.push_back(leaf.name);
  for (const ObjectLeaf& leaf : archive.objects) names.push_back(leaf.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice == names.end()) return {};
  auto error = BadPickle(file, "two values have this name when nested dictionaries are flattened",
                         "distinct names", "rename a key: 'a.b' and 'b' within 'a' are one name");
  error.error().tensor = *twice;
  return error;
}

// Flattens what `records` (ZipRecords or LegacyRecords) hold.
template <typename Records>
Result<Archive> Collect(const Records& records, const std::string& file,
                        const RootVisitor& visit_root) {
  Archive archive;
  uint64_t budget = kMaxSearched;
  if (visit_root) RESHARD_TRY(visit_root(records.root()));
  const auto add_tensor = [&](const Path& path, std::string name, const Value& value) -> Result<> {
    RESHARD_ASSIGN(TensorCall call, ParseTensor(value, file));
    RESHARD_ASSIGN(TensorEntry tensor, records.Place(std::move(call)));
    archive.tensors.push_back({std::move(name), path, std::move(tensor)});
    return {};
  };
  const auto visit = [&](const Path& path, std::string name, const Value& value) -> Result<> {
    auto unread = IsTensor(value) ? UnsupportedTensor(value) : TensorHolder(value, &budget);
    const bool is_tensor = IsTensor(value) && !unread;
    Path full = path;
    if (path.empty()) {
      name = is_tensor || unread ? "tensor" : "object";
      full.emplace_back(name);
    }
    if (unread) {
      archive.unreadable.push_back({std::move(name), std::move(full), *std::move(unread)});
      return {};
    }
    if (!is_tensor) {
      archive.objects.push_back({std::move(name), std::move(full), Summarize(value)});
      return {};
    }
    auto added = add_tensor(full, name, value);
    if (!added) added.error().tensor = std::move(name);
    return added;
  };
  RESHARD_TRY(Flatten(records.root(), file, visit));
  RESHARD_TRY(CheckNames(archive, file));
  return archive;
}

// torch.save stores one element for an expanded tensor, and one storage for tensors that share it;
// masks and tied weights are of that kind. What is written has every element: a file of 600 bytes
// must not fill a disk.
constexpr uint64_t kMaxExpansion = 64;
constexpr uint64_t kFreeExpansion = uint64_t{1} << 30;

Result<> CheckExpansion(const Archive& archive, const ByteSource& file) {
  const auto sum = [](uint64_t a, uint64_t b) { return CheckedAdd(a, b).value_or(UINT64_MAX); };
  const auto product = [](uint64_t a, uint64_t b) { return CheckedMul(a, b).value_or(UINT64_MAX); };
  const uint64_t most = sum(kFreeExpansion, product(kMaxExpansion, file.size()));
  uint64_t total = 0;
  for (const TensorLeaf& leaf : archive.tensors) {
    const int64_t elements = CheckedNumel(leaf.tensor.shape).value_or(INT64_MAX);
    const auto item = static_cast<uint64_t>(ItemSize(leaf.tensor.dtype));
    total = sum(total, product(static_cast<uint64_t>(elements), item));
    if (total <= most) continue;
    auto error = BadPickle(
        file.name(),
        fmt::format("the file has {} bytes, and its tensors have {} or more", file.size(), total),
        fmt::format("at most {} times as many, and {} bytes", kMaxExpansion, kFreeExpansion),
        "its tensors repeat what the file holds once: save their .clone()");
    error.error().tensor = leaf.name;
    return error;
  }
  return {};
}

// What torch wrote before 0.1.10: a tar of 'storages', 'tensors' and 'pickle'.
bool IsTar(std::string_view head) {
  return head.starts_with("storages") || head.starts_with("./storages") ||
         head.substr(std::min<uint64_t>(head.size(), kTarMagicOffset)).starts_with("ustar");
}

}  // namespace

Result<Archive> DecodeFile(const ByteSource& file, const RootVisitor& visit) {
  std::string head(std::min<uint64_t>(file.size(), kTarMagicOffset + 5), '\0');
  RESHARD_TRY(file.ReadAt(0, std::as_writable_bytes(std::span(head))));
  if (head.starts_with(kZipMagic)) {
    RESHARD_ASSIGN(const ZipRecords records, ZipRecords::Open(file));
    RESHARD_ASSIGN(Archive archive, Collect(records, file.name(), visit));
    RESHARD_TRY(CheckExpansion(archive, file));
    return archive;
  }
  if (IsTar(head))
    return BadPickle(file.name(), "a tar, the format of torch.save before torch 0.1.10",
                     "a zip, or the format between the two",
                     "load it and save it again with any newer torch");
  if (!head.starts_with('\x80'))
    return BadPickle(file.name(), "a file that torch.save did not write",
                     "a zip (PK\\3\\4) or a pickle (byte 0x80)");
  RESHARD_ASSIGN(const LegacyRecords records, LegacyRecords::Open(file));
  RESHARD_ASSIGN(Archive archive, Collect(records, file.name(), visit));
  RESHARD_TRY(CheckExpansion(archive, file));
  archive.container = Container::kLegacy;
  return archive;
}

}  // namespace reshard::torch_save
