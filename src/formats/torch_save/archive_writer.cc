#include "formats/torch_save/archive_writer.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/checked_math.h"
#include "formats/zip/archive_layout.h"

namespace reshard::torch_save {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 62;

std::unexpected<Error> CannotWrite(std::string_view tensor, std::string found,
                                   std::string expected) {
  return std::unexpected(Error{.kind = ErrorKind::kMapping,
                               .tensor = std::string(tensor),
                               .found = std::move(found),
                               .expected = std::move(expected)});
}

bool TorchHas(DType dtype) {
  switch (dtype) {
    case DType::kFloat6E2M3x4:
    case DType::kFloat6E3M2x4:
    case DType::kQInt8:
    case DType::kQUInt8:
    case DType::kQInt32:
    case DType::kQUInt4x2:
    case DType::kQUInt2x4:
      return false;
    default:
      return true;
  }
}

}  // namespace

Result<uint64_t> CountBytes(DType dtype, std::span<const int64_t> shape, std::string_view name) {
  if (!TorchHas(dtype))
    return CannotWrite(name, fmt::format("the type {}", DTypeName(dtype)),
                       "a type that torch has for plain tensors");
  const auto numel = CheckedNumel(shape);
  const auto bytes = numel ? CheckedMul(*numel, ItemSize(dtype)) : std::nullopt;
  if (!bytes || *bytes >= kMaxBytes)
    return CannotWrite(name, fmt::format("the shape [{}]", fmt::join(shape, ", ")),
                       "no negative number, and fewer than 2^62 bytes");
  return static_cast<uint64_t>(*bytes);
}

FileLayout LayoutArchive(std::string_view archive_name, std::string_view pickle,
                         std::span<const uint64_t> storages) {
  zip::ArchiveLayout layout(archive_name);
  layout.AddLiteral("data.pkl", pickle);
  layout.AddLiteral(".format_version", "1");
  layout.AddLiteral(".storage_alignment", "64");
  layout.AddLiteral("byteorder", "little");
  for (size_t i = 0; i < storages.size(); ++i)
    layout.AddSlot(fmt::format("data/{}", i), storages[i]);
  layout.AddLiteral("version", "3\n");
  return std::move(layout).Finish();
}

}  // namespace reshard::torch_save
