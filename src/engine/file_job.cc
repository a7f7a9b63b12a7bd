#include "engine/file_job.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <set>

#include "base/endian.h"
#include "base/try.h"
#include "engine/crc32.h"
#include "io/staged_output.h"

namespace reshard {

FileJob::FileJob(const FilePlan& plan, const OutputDirectory& directory)
    : plan_(plan), directory_(directory), missing_(BlockCount(plan.size)) {
  sum_.size = plan.size;
  sum_.blocks.resize(BlockCount(plan.size));
  if (!plan.late_crcs.empty()) crc_parts_.resize(sum_.blocks.size());
}

std::string FileJob::StagedName(const std::string& path) {
  return path + std::string(kStagedSuffix);
}

Result<> FileJob::Open() {
  std::call_once(opened_, [&] {
    open_result_ = [&]() -> Result<> {
      if (!plan_.copy_of.empty()) {
        RESHARD_ASSIGN(original_, InputFile::Open(plan_.copy_of));
        if (original_->size() != plan_.size)
          return std::unexpected(
              Error{.kind = ErrorKind::kSource,
                    .file = plan_.copy_of,
                    .found = fmt::format("the file has {} bytes", original_->size()),
                    .expected = fmt::format("{} bytes, as when the plan was made", plan_.size),
                    .help = "run the same command again when nothing changes this file"});
      }
      RESHARD_ASSIGN(file_, directory_.Create(StagedName(plan_.path)));
      return {};
    }();
  });
  return open_result_;
}

Result<bool> FileJob::WriteBlock(uint64_t block, const Tools& tools) {
  RESHARD_TRY(Open());
  const uint64_t block_begin = block * kBlockBytes;
  const uint64_t block_end = std::min(plan_.size, block_begin + kBlockBytes);
  std::vector<std::byte> copied(original_ ? kWindowBytes : 0);
  tools.hash.Reset();
  const uint64_t window =
      original_ ? kWindowBytes : tools.filler.BestWindow(plan_, block_begin, block_end);
  for (uint64_t begin = block_begin; begin < block_end; begin += window) {
    if (tools.stop) return false;
    const uint64_t end = std::min(block_end, begin + window);
    std::span<const std::byte> bytes;
    if (original_) {
      const auto part = std::span(copied).first(end - begin);
      RESHARD_TRY(original_->ReadAt(begin, part));
      bytes = part;
    } else {
      RESHARD_ASSIGN(bytes, tools.filler.Fill(plan_, begin, end, tools.on_overflow));
    }
    tools.hash.Update(bytes);
    if (!plan_.late_crcs.empty()) AddToCrcs(block, begin, bytes);
    RESHARD_TRY(file_->WriteAt(begin, bytes));
    tools.bytes_done += bytes.size();
  }
  file_->StartWriteback(block_begin, block_end - block_begin);
  sum_.blocks[block] = tools.hash.Digest();
  return --missing_ == 0;
}

void FileJob::AddToCrcs(uint64_t block, uint64_t begin, std::span<const std::byte> bytes) {
  const uint64_t end = begin + bytes.size();
  const auto& ranges = plan_.late_crcs;
  auto range = std::ranges::upper_bound(ranges, begin, {}, &LateCrc::begin);
  if (range != ranges.begin()) --range;
  auto& parts = crc_parts_[block];
  for (; range != ranges.end() && range->begin < end; ++range) {
    const uint64_t from = std::max(begin, range->begin), to = std::min(end, range->end);
    if (from >= to) continue;
    const size_t index = static_cast<size_t>(range - ranges.begin());
    if (parts.empty() || parts.back().first != index) parts.push_back({index, {}});
    CrcPart& part = parts.back().second;
    part.crc = UpdateCrc32(part.crc, bytes.subspan(from - begin, to - from));
    part.length += to - from;
  }
}

Result<> FileJob::WriteLateBytes() {
  std::vector<uint32_t> crcs(plan_.late_crcs.size(), 0);
  for (const auto& parts : crc_parts_)
    for (const auto& [index, part] : parts)
      crcs[index] = static_cast<uint32_t>(
          crc32_combine(crcs[index], part.crc, static_cast<z_off_t>(part.length)));
  std::set<uint64_t> touched;
  for (size_t i = 0; i < crcs.size(); ++i)
    for (uint64_t target : plan_.late_crcs[i].targets) {
      std::array<std::byte, 4> bytes;
      StoreLittle(crcs[i], bytes.data());
      RESHARD_TRY(file_->WriteAt(target, bytes));
      touched.insert(target / kBlockBytes);
      touched.insert((target + 3) / kBlockBytes);
    }
  // Only blocks with late bytes are summed again.
  std::vector<std::byte> buffer(kWindowBytes);
  BlockHash hash;
  for (uint64_t block : touched) {
    const uint64_t end = std::min(plan_.size, (block + 1) * kBlockBytes);
    hash.Reset();
    for (uint64_t at = block * kBlockBytes; at < end; at += buffer.size()) {
      const auto bytes = std::span(buffer).first(std::min<uint64_t>(buffer.size(), end - at));
      RESHARD_TRY(file_->ReadAt(at, bytes));
      hash.Update(bytes);
    }
    sum_.blocks[block] = hash.Digest();
  }
  return {};
}

Result<FileChecksum> FileJob::Finish() {
  RESHARD_TRY(Open());
  if (!plan_.late_crcs.empty()) RESHARD_TRY(WriteLateBytes());
  RESHARD_TRY(file_->SyncAndClose());
  return sum_;
}

}  // namespace reshard
