#include "engine/checked_source.h"

#include <algorithm>
#include <filesystem>
#include <tuple>

#include <fmt/format.h>
#include <zlib.h>

#include "base/try.h"
#include "engine/crc32.h"

namespace reshard {
namespace {

// Pieces of one tensor's bytes that lie apart: more of them than threads read at a time mean that it
// is read across its rows, where accounting costs more than the reading. The bound on all together
// keeps memory small, about 6 MB.
constexpr size_t kMaxPartsOfOne = 1024;
constexpr size_t kMaxParts = 64 << 10;

uint32_t Join(uint32_t first, uint32_t second, uint64_t length_of_second) {
  return static_cast<uint32_t>(
      crc32_combine(first, second, static_cast<z_off_t>(length_of_second)));
}

auto PlaceOf(const ExpectedCrc& sum) {
  return std::tuple(sum.file, sum.crc.offset, sum.crc.length, sum.crc.crc32);
}

}  // namespace

void CheckedSource::Expect(std::vector<ExpectedCrc> sums) {
  std::ranges::sort(sums, {}, PlaceOf);
  const auto same = std::ranges::unique(sums, {}, PlaceOf);
  sums.erase(same.begin(), same.end());
  sums_ = std::move(sums);
  settled_ = std::vector<std::atomic<bool>>(sums_.size());
}

Result<> CheckedSource::ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const {
  RESHARD_TRY(of_.ReadAt(file, offset, out));
  const auto place = [](const ExpectedCrc& sum) { return std::pair(sum.file, sum.crc.offset); };
  auto sum = std::ranges::upper_bound(sums_, std::pair(file, offset), {}, place);
  if (sum != sums_.begin() && std::prev(sum)->file == file) --sum;
  const uint64_t end = offset + out.size();
  for (; sum != sums_.end() && sum->file == file && sum->crc.offset < end; ++sum) {
    const uint64_t from = std::max(offset, sum->crc.offset);
    const uint64_t to = std::min(end, sum->crc.offset + sum->crc.length);
    const auto index = static_cast<size_t>(sum - sums_.begin());
    if (from >= to || settled_[index]) continue;
    RESHARD_TRY(Add(index, from - sum->crc.offset, out.subspan(from - offset, to - from)));
  }
  return {};
}

// What of [begin, end) has not been read before, as parts that are now ours to sum.
std::vector<std::pair<uint64_t, uint64_t>> CheckedSource::Reserve(size_t index, uint64_t begin,
                                                                  uint64_t end) const {
  Shelf& shelf = shelves_[index % kShelves];
  std::lock_guard lock(shelf.mutex);
  std::vector<std::pair<uint64_t, uint64_t>> ours;
  if (settled_[index]) return ours;
  Parts& parts = shelf.open[index];
  auto next = parts.upper_bound(begin);
  if (next != parts.begin()) begin = std::max(begin, std::prev(next)->second.end);
  while (begin < end) {
    const uint64_t stop = next == parts.end() ? end : std::min(end, next->first);
    if (begin < stop) {
      ours.emplace_back(begin, stop);
      parts.emplace_hint(next, begin, Part{.end = stop});
      ++parts_;
    }
    if (next == parts.end()) break;
    begin = std::max(begin, next->second.end);
    ++next;
  }
  if (parts.size() <= kMaxPartsOfOne && parts_ <= kMaxParts) return ours;
  Drop(&shelf, index);
  return {};
}

void CheckedSource::Drop(Shelf* shelf, size_t index) const {
  const auto at = shelf->open.find(index);
  if (at != shelf->open.end()) {
    parts_ -= at->second.size();
    shelf->open.erase(at);
  }
  settled_[index] = true;
}

Result<> CheckedSource::Add(size_t index, uint64_t begin, std::span<const std::byte> bytes) const {
  const uint64_t length = sums_[index].crc.length;
  if (bytes.size() == length) {
    {
      Shelf& shelf = shelves_[index % kShelves];
      std::lock_guard lock(shelf.mutex);
      if (settled_[index]) return {};
      Drop(&shelf, index);
    }
    return Compare(index, UpdateCrc32(0, bytes));
  }
  for (const auto& [from, to] : Reserve(index, begin, begin + bytes.size())) {
    const uint32_t crc = UpdateCrc32(0, bytes.subspan(from - begin, to - from));
    Shelf& shelf = shelves_[index % kShelves];
    std::unique_lock lock(shelf.mutex);
    const auto open = shelf.open.find(index);
    if (open == shelf.open.end()) return {};
    Parts& parts = open->second;
    auto part = parts.find(from);
    part->second.crc = crc;
    part->second.summed = true;
    const auto take = [&](Parts::iterator first, Parts::iterator second) {
      first->second.crc = Join(first->second.crc, second->second.crc,
                               second->second.end - second->first);
      first->second.end = second->second.end;
      parts.erase(second);
      --parts_;
    };
    if (const auto next = std::next(part);
        next != parts.end() && next->second.summed && next->first == part->second.end)
      take(part, next);
    if (part != parts.begin())
      if (const auto before = std::prev(part);
          before->second.summed && before->second.end == part->first) {
        take(before, part);
        part = before;
      }
    if (part->first != 0 || part->second.end != length || !part->second.summed) continue;
    const uint32_t whole = part->second.crc;
    Drop(&shelf, index);
    lock.unlock();
    return Compare(index, whole);
  }
  return {};
}

Result<> CheckedSource::Compare(size_t index, uint32_t crc) const {
  const ExpectedCrc& sum = sums_[index];
  if (crc == sum.crc.crc32) return {};
  found_damage_ = true;
  const std::filesystem::path path = catalog().files()[sum.in_file].path;
  return std::unexpected(
      Error{.kind = ErrorKind::kSource,
            .file = (std::filesystem::path(root()) / path).string(),
            .offset = sum.crc.offset,
            .tensor = catalog().tensors()[sum.tensor].name,
            .found = fmt::format("the {} bytes of this tensor here have the CRC-32 {:08x}",
                                 sum.crc.length, crc),
            .expected = fmt::format("{:08x}, as the file says of them", sum.crc.crc32),
            .help = "the file was damaged after it was written: copy it again"});
}

}  // namespace reshard
