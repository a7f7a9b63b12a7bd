#include "formats/torch_save/state_dict_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/checked_math.h"
#include "base/try.h"
#include "formats/torch_save/state_dict_pickle.h"
#include "formats/zip/archive_layout.h"

namespace reshard::torch_save {
namespace {

constexpr size_t kMaxArchiveName = 255;
constexpr size_t kMaxName = size_t{1} << 20;
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

Result<> CheckNames(std::span<const TensorDecl> tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorDecl& tensor : tensors) names.push_back(tensor.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice == names.end()) return {};
  return CannotWrite(*twice, "two tensors of this name", "distinct names");
}

// The tensor's bytes, which are also added to `total`.
Result<uint64_t> CountBytes(const TensorDecl& tensor, int64_t* total) {
  if (!TorchHas(tensor.dtype))
    return CannotWrite(tensor.name, fmt::format("the type {}", DTypeName(tensor.dtype)),
                       "a type that torch has for plain tensors");
  if (tensor.name.size() >= kMaxName)
    return CannotWrite(tensor.name.substr(0, 60), "the name is too long",
                       fmt::format("fewer than {} bytes", kMaxName));
  const auto numel = CheckedNumel(tensor.shape);
  const auto bytes = numel ? CheckedMul(*numel, ItemSize(tensor.dtype)) : std::nullopt;
  const auto sum = bytes ? CheckedAdd(*total, *bytes) : std::nullopt;
  if (!sum || *sum > kMaxBytes)
    return CannotWrite(tensor.name, fmt::format("the shape [{}]", fmt::join(tensor.shape, ", ")),
                       "no negative number, and fewer than 2^62 bytes in the file");
  *total = *sum;
  return static_cast<uint64_t>(*bytes);
}

}  // namespace

Result<FileLayout> EncodeStateDict(std::span<const TensorDecl> tensors,
                                   std::string_view archive_name) {
  if (archive_name.empty() || archive_name.size() > kMaxArchiveName ||
      archive_name.find('/') != std::string_view::npos)
    return CannotWrite({}, fmt::format("the archive name '{}'", archive_name),
                       fmt::format("1 to {} bytes without a '/'", kMaxArchiveName));
  RESHARD_TRY(CheckNames(tensors));
  std::vector<uint64_t> sizes;
  sizes.reserve(tensors.size());
  int64_t total = 0;
  for (const TensorDecl& tensor : tensors) {
    RESHARD_ASSIGN(const uint64_t bytes, CountBytes(tensor, &total));
    sizes.push_back(bytes);
  }

  zip::ArchiveLayout layout(archive_name);
  layout.AddLiteral("data.pkl", PickleStateDict(tensors));
  layout.AddLiteral(".format_version", "1");
  layout.AddLiteral(".storage_alignment", "64");
  layout.AddLiteral("byteorder", "little");
  for (size_t i = 0; i < sizes.size(); ++i) layout.AddSlot(fmt::format("data/{}", i), sizes[i]);
  layout.AddLiteral("version", "3\n");
  return std::move(layout).Finish();
}

}  // namespace reshard::torch_save
