#include "formats/torch_save/legacy.h"

#include <fmt/format.h>

#include <array>
#include <span>

#include "base/checked_math.h"
#include "base/endian.h"
#include "base/try.h"
#include "formats/torch_save/value_stack.h"

namespace reshard::torch_save {
namespace {

using pickle::Document;
using pickle::Kind;
using pickle::Value;

// 0x1950a86a20f9469cfc6c, as LONG1 has it.
constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr int64_t kProtocolVersion = 1001;

std::unexpected<Error> BadAt(const ByteSource& file, uint64_t offset, std::string found,
                             std::string expected, std::string help = {}) {
  auto error = BadPickle(file.name(), std::move(found), std::move(expected), std::move(help));
  error.error().offset = file.origin() + offset;
  return error;
}

// Decodes the pickle at `*position` and moves past it.
Result<Document> NextPickle(const ByteSource& file, uint64_t* position) {
  RESHARD_ASSIGN(Document document, pickle::Decode(file, *position));
  *position = document.end();
  return document;
}

bool IsModule(const Value& id) {
  return id.is(Kind::kTuple) && !id.items().empty() && id.items()[0].is(Kind::kString) &&
         id.items()[0].text() == "module";
}

}  // namespace

Result<LegacyRecords> LegacyRecords::Open(const ByteSource& file) {
  uint64_t position = 0;
  RESHARD_ASSIGN(const Document magic, NextPickle(file, &position));
  if (!magic.root().is(Kind::kBytes) || magic.root().text() != kMagic)
    return BadAt(file, 0, "a pickle that torch.save did not write",
                 "torch.save's magic number, or a zip");
  const uint64_t version_offset = position;
  RESHARD_ASSIGN(const Document version, NextPickle(file, &position));
  if (!version.root().is(Kind::kInt) || version.root().as_int() != kProtocolVersion)
    return BadAt(file, version_offset, "a torch.save file of an unknown version",
                 fmt::format("version {}", kProtocolVersion));
  RESHARD_TRY(NextPickle(file, &position));  // the machine's sizes, which torch ignores too
  RESHARD_ASSIGN(Document document, NextPickle(file, &position));
  RESHARD_ASSIGN(const Document keys, NextPickle(file, &position));
  RESHARD_ASSIGN(Storages storages, Collect(document.root(), file.name()));
  RESHARD_TRY(Locate(file, keys, &storages));
  return LegacyRecords(file, std::move(document), std::move(storages));
}

Result<LegacyRecords::Storages> LegacyRecords::Collect(const Value& root, const std::string& file) {
  Storages storages;
  for (ValueStack stack(root); !stack.empty();) {
    const Value value = stack.Pop();
    if (!value.is(Kind::kPersistentId) || IsModule(value.persistent_id())) continue;
    RESHARD_ASSIGN(const StorageRef ref, ParseStorage(value, file));
    const Storage storage{.bytes = ref.bytes, .item_size = ItemSize(ref.dtype)};
    const auto [known, added] = storages.try_emplace(std::string(ref.key), storage);
    if (!added &&
        (known->second.bytes != storage.bytes || known->second.item_size != storage.item_size))
      return BadPickle(file, fmt::format("two descriptions of the storage '{}'", ref.key),
                       "one type and size for each storage");
  }
  return storages;
}

Result<> LegacyRecords::Locate(const ByteSource& file, const Document& keys, Storages* storages) {
  uint64_t position = keys.end();
  const auto bad_keys = [&] {
    return BadAt(file, position, "the list of storage keys does not fit the object",
                 "each storage that the object names, once");
  };
  if (!keys.root().is(Kind::kList) || keys.root().items().size() != storages->size())
    return bad_keys();
  for (const Value& key : keys.root().items()) {
    if (!key.is(Kind::kString) && !key.is(Kind::kBytes)) return bad_keys();
    const auto found = storages->find(key.text());
    if (found == storages->end() || found->second.offset != 0) return bad_keys();
    Storage& storage = found->second;
    std::array<std::byte, sizeof(int64_t)> count;
    RESHARD_TRY(file.ReadAt(position, count));
    const auto numel = LoadLittle<int64_t>(count.data());
    const auto bytes = CheckedMul(numel, storage.item_size);
    if (numel < 0 || !bytes || static_cast<uint64_t>(*bytes) != storage.bytes)
      return BadAt(file, position, fmt::format("a storage of {} elements", numel),
                   fmt::format("{} elements, as the pickle says",
                               storage.bytes / static_cast<uint64_t>(storage.item_size)));
    position += count.size();
    if (!InRange(position, storage.bytes, file.size()))
      return std::unexpected(PastEndError(file.name(), file.origin() + position, storage.bytes,
                                          file.origin() + file.size()));
    storage.offset = position;
    position += storage.bytes;
  }
  if (position != file.size())
    return BadAt(file, position,
                 fmt::format("{} bytes after the last storage", file.size() - position),
                 "the end of the file", "save what follows it to a file of its own");
  return {};
}

Result<TensorEntry> LegacyRecords::Place(TensorCall tensor) const {
  const auto found = storages_.find(tensor.storage.key);
  // Collect has seen every storage of the document that the tensor is from.
  if (found == storages_.end())
    return BadPickle(file_->name(), fmt::format("no storage '{}'", tensor.storage.key),
                     "a storage for each tensor");
  return PlaceTensor(std::move(tensor), found->second.offset, big_endian());
}

}  // namespace reshard::torch_save
