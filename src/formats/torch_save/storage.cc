#include "formats/torch_save/storage.h"

#include <fmt/format.h>

#include "base/checked_math.h"
#include "base/try.h"
#include "formats/torch_save/storage_class.h"
#include "formats/torch_save/summary.h"

namespace reshard::torch_save {
namespace {

using pickle::Kind;
using pickle::Value;

// Python 2 wrote text as bytes.
bool IsText(const Value& value) { return value.is(Kind::kString) || value.is(Kind::kBytes); }

// Files of the time before torch 0.4 name the classes of the device: torch.cuda.FloatStorage.
std::optional<DType> ClassDType(const Value& value) {
  if (!value.is(Kind::kGlobal)) return std::nullopt;
  const std::string_view module = value.module();
  if (module != "torch" && module != "torch.storage" && module != "torch.cuda") return std::nullopt;
  if (value.name() == "UntypedStorage") return DType::kUInt8;
  return StorageClassDType(value.name());
}

// `value` counts elements of `item_size` bytes.
std::optional<uint64_t> ByteCount(const Value& value, int64_t item_size) {
  if (!value.is(Kind::kInt) || value.as_int() < 0) return std::nullopt;
  const auto bytes = CheckedMul(value.as_int(), item_size);
  if (!bytes) return std::nullopt;
  return static_cast<uint64_t>(*bytes);
}

std::unexpected<Error> BadStorage(const Value& value, const std::string& file) {
  return BadPickle(file, fmt::format("a tensor's storage is described by {}", Summarize(value)),
                   "('storage', class, key, location, size)");
}

}  // namespace

Result<StorageRef> ParseStorage(const Value& value, const std::string& file) {
  if (!value.is(Kind::kPersistentId)) return BadStorage(value, file);
  const Value& id = value.persistent_id();
  if (!id.is(Kind::kTuple)) return BadStorage(value, file);
  const auto fields = id.items();
  if ((fields.size() != 5 && fields.size() != 6) || !IsText(fields[0]) ||
      fields[0].text() != "storage" || !IsText(fields[2]))
    return BadStorage(value, file);
  const auto dtype = ClassDType(fields[1]);
  if (!dtype)
    return BadPickle(file, fmt::format("the storage class {}", Summarize(fields[1])),
                     "one of torch's storage classes, such as torch.FloatStorage");
  const auto bytes = ByteCount(fields[4], ItemSize(*dtype));
  if (!bytes) return BadStorage(value, file);
  StorageRef storage{
      .key = fields[2].text(), .dtype = *dtype, .bytes = *bytes, .view_bytes = *bytes};
  if (fields.size() == 5 || fields[5].is(Kind::kNone)) return storage;

  if (!fields[5].is(Kind::kTuple) || fields[5].items().size() != 3) return BadStorage(value, file);
  const auto view = fields[5].items();
  const auto view_offset = ByteCount(view[1], ItemSize(*dtype));
  const auto view_bytes = ByteCount(view[2], ItemSize(*dtype));
  if (!view_offset || !view_bytes || !InRange(*view_offset, *view_bytes, *bytes))
    return BadStorage(value, file);
  storage.view_offset = *view_offset;
  storage.view_bytes = *view_bytes;
  return storage;
}

std::unexpected<Error> BadPickle(const std::string& file, std::string found, std::string expected,
                                 std::string help) {
  return std::unexpected(Error{.kind = ErrorKind::kSource,
                               .file = file,
                               .found = std::move(found),
                               .expected = std::move(expected),
                               .help = std::move(help)});
}

}  // namespace reshard::torch_save
