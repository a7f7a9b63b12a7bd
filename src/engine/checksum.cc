#include "engine/checksum.h"

#include <algorithm>

#include <fmt/format.h>
#include <xxhash.h>

#include "base/try.h"

namespace reshard {

struct BlockHash::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

BlockHash::BlockHash() : state_(std::make_unique<State>()) { Reset(); }
BlockHash::~BlockHash() = default;

void BlockHash::Reset() { XXH3_64bits_reset(state_->xxh); }

void BlockHash::Update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_->xxh, bytes.data(), bytes.size());
}

uint64_t BlockHash::Digest() const { return XXH3_64bits_digest(state_->xxh); }

std::string FileChecksum::Root() const {
  const XXH128_hash_t hash = XXH3_128bits(blocks.data(), blocks.size() * sizeof(uint64_t));
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

Result<uint64_t> SumBlock(const ByteSource& file, uint64_t block) {
  const uint64_t begin = block * kBlockBytes;
  const uint64_t end = std::min(file.size(), begin + kBlockBytes);
  std::vector<std::byte> buffer(std::min<uint64_t>(end - begin, uint64_t{1} << 20));
  BlockHash hash;
  for (uint64_t at = begin; at < end; at += buffer.size()) {
    const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), end - at));
    RESHARD_TRY(file.ReadAt(at, part));
    hash.Update(part);
  }
  return hash.Digest();
}

Result<FileChecksum> SumFile(const ByteSource& file) {
  FileChecksum sum{.size = file.size()};
  for (uint64_t block = 0; block < BlockCount(sum.size); ++block) {
    RESHARD_ASSIGN(const uint64_t digest, SumBlock(file, block));
    sum.blocks.push_back(digest);
  }
  return sum;
}

}  // namespace reshard
