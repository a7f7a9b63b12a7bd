#include "formats/torch_save/zip_records.h"

#include <fmt/format.h>

#include <charconv>
#include <span>
#include <string_view>
#include <utility>

#include "base/try.h"
#include "formats/zip/checksum.h"
#include "formats/zip/end_record.h"

namespace reshard::torch_save {
namespace {

// The versions that torch 2.13 reads, and that differ in nothing that matters here.
constexpr int kMinVersion = 1;
constexpr int kMaxVersion = 10;
constexpr uint64_t kMaxSmallRecord = 64;

const zip::Member* FindRecord(const zip::Directory& directory, const std::string& prefix,
                              std::string_view name) {
  return directory.Find(prefix + std::string(name));
}

Result<std::string> FindPrefix(const ByteSource& source, const zip::Directory& directory) {
  const auto members = directory.members();
  const size_t slash = members.empty() ? std::string_view::npos : members[0].name.find('/');
  if (slash == std::string_view::npos)
    return zip::Damaged(source, 0, "a zip whose records are not in a folder",
                        "records such as 'archive/data.pkl', as torch.save writes them");
  return std::string(members[0].name.substr(0, slash + 1));
}

Result<std::string> ReadSmall(const ByteSource& source, const zip::Member& member) {
  if (member.size > kMaxSmallRecord)
    return zip::Damaged(source, member.data_offset,
                        fmt::format("the record '{}' of {} bytes", member.name, member.size),
                        fmt::format("at most {} bytes", kMaxSmallRecord));
  std::string bytes(member.size, '\0');
  RESHARD_TRY(source.ReadAt(member.data_offset, std::as_writable_bytes(std::span(bytes))));
  return bytes;
}

Result<> CheckVersion(const ByteSource& source, const zip::Directory& directory,
                      const std::string& prefix) {
  const zip::Member* member = FindRecord(directory, prefix, "version");
  if (member == nullptr) member = FindRecord(directory, prefix, ".data/version");
  if (member == nullptr) return {};
  RESHARD_ASSIGN(const std::string text, ReadSmall(source, *member));
  int version = 0;
  std::from_chars(text.data(), text.data() + text.size(), version);
  if (version < kMinVersion || version > kMaxVersion)
    return zip::Damaged(source, member->data_offset, "a torch.save file of an unknown version",
                        fmt::format("a version from {} to {}", kMinVersion, kMaxVersion));
  return {};
}

Result<bool> IsBigEndian(const ByteSource& source, const zip::Directory& directory,
                         const std::string& prefix) {
  const zip::Member* member = FindRecord(directory, prefix, "byteorder");
  if (member == nullptr) return false;
  RESHARD_ASSIGN(const std::string order, ReadSmall(source, *member));
  if (order != "little" && order != "big")
    return zip::Damaged(source, member->data_offset, "an unknown byte order", "'little' or 'big'");
  return order == "big";
}

Result<pickle::Document> DecodePickle(const ByteSource& source, const zip::Directory& directory,
                                      const std::string& prefix) {
  if (FindRecord(directory, prefix, "constants.pkl") != nullptr)
    return zip::Damaged(source, 0, "a TorchScript program (torch.jit.save)",
                        "a checkpoint written by torch.save",
                        "save the module's state_dict() with torch.save");
  const zip::Member* member = FindRecord(directory, prefix, "data.pkl");
  if (member == nullptr)
    return zip::Damaged(source, 0, fmt::format("a zip without '{}data.pkl'", prefix),
                        "a zip that torch.save wrote");
  RESHARD_TRY(zip::CheckCrc(source, *member));
  // A view of its own, so that no length in the pickle can ask for more than the record has.
  const SubSource record(source, member->data_offset, member->size);
  auto document = pickle::Decode(record);
  if (!document && document.error().offset) *document.error().offset += record.origin();
  if (document && document->end() != member->size)
    return zip::Damaged(source, member->data_offset + document->end(), "bytes after the pickle",
                        fmt::format("the end of the record '{}'", member->name));
  return document;
}

}  // namespace

Result<ZipRecords> ZipRecords::Open(const ByteSource& source) {
  RESHARD_ASSIGN(zip::Directory directory, zip::ReadDirectory(source));
  RESHARD_ASSIGN(std::string prefix, FindPrefix(source, directory));
  RESHARD_TRY(CheckVersion(source, directory, prefix));
  RESHARD_ASSIGN(const bool big_endian, IsBigEndian(source, directory, prefix));
  RESHARD_ASSIGN(pickle::Document document, DecodePickle(source, directory, prefix));
  return ZipRecords(source, std::move(directory), std::move(prefix), std::move(document),
                    big_endian);
}

Result<TensorEntry> ZipRecords::Place(TensorCall tensor) const {
  const std::string name = fmt::format("{}data/{}", prefix_, tensor.storage.key);
  const zip::Member* member = directory_.Find(name);
  if (member == nullptr)
    return zip::Damaged(*source_, 0, fmt::format("no record '{}'", name),
                        "a record for each storage that the pickle names");
  if (member->size != tensor.storage.bytes)
    return zip::Damaged(
        *source_, member->data_offset,
        fmt::format("the record '{}' has {} bytes", name, member->size),
        fmt::format("the {} bytes of the storage that the pickle describes", tensor.storage.bytes));
  TensorEntry entry = PlaceTensor(std::move(tensor), member->data_offset, big_endian_);
  if (entry.storage_bytes == member->size) entry.crc = member->crc;
  return entry;
}

}  // namespace reshard::torch_save
