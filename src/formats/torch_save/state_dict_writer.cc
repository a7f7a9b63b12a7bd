#include "formats/torch_save/state_dict_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/checked_math.h"
#include "base/try.h"
#include "formats/torch_save/state_dict_pickle.h"
#include "formats/zip/archive_layout.h"

namespace reshard::torch_save {
namespace {

constexpr size_t kMaxArchiveName = 255;
constexpr size_t kMaxText = size_t{1} << 20;
constexpr size_t kShownText = 60;
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

// Finds the tensors of a dict in the order of writing, and checks all that is written.
class Collector {
 public:
  // `path` is that of the dict's keys, with a '.' after each.
  Result<> Add(const Dict& dict, const std::string& path) {
    RESHARD_TRY(CheckKeys(dict, path));
    for (const Item& item : dict.items) {
      const std::string name = path + item.key;
      if (const auto* tensor = std::get_if<const TensorDecl*>(&item.value)) {
        RESHARD_TRY(AddTensor(**tensor, name));
      } else if (const auto* inner = std::get_if<Dict>(&item.value)) {
        RESHARD_TRY(Add(*inner, name + "."));
      } else if (const auto* text = std::get_if<std::string>(&item.value)) {
        RESHARD_TRY(CheckText(*text, path));
      }
    }
    return {};
  }

  const std::vector<uint64_t>& sizes() const { return sizes_; }

 private:
  static Result<> CheckText(std::string_view text, const std::string& path) {
    if (text.size() < kMaxText) return {};
    return CannotWrite(path + std::string(text.substr(0, kShownText)),
                       fmt::format("a text of {} bytes", text.size()),
                       fmt::format("fewer than {} bytes", kMaxText));
  }

  static Result<> CheckKeys(const Dict& dict, const std::string& path) {
    std::vector<std::string_view> keys;
    keys.reserve(dict.items.size());
    for (const Item& item : dict.items) {
      RESHARD_TRY(CheckText(item.key, path));
      keys.push_back(item.key);
    }
    std::ranges::sort(keys);
    const auto twice = std::ranges::adjacent_find(keys);
    if (twice == keys.end()) return {};
    return CannotWrite(path + std::string(*twice), "two values of this name", "distinct names");
  }

  Result<> AddTensor(const TensorDecl& tensor, const std::string& name) {
    if (!TorchHas(tensor.dtype))
      return CannotWrite(name, fmt::format("the type {}", DTypeName(tensor.dtype)),
                         "a type that torch has for plain tensors");
    const auto numel = CheckedNumel(tensor.shape);
    const auto bytes = numel ? CheckedMul(*numel, ItemSize(tensor.dtype)) : std::nullopt;
    const auto sum = bytes ? CheckedAdd(total_, *bytes) : std::nullopt;
    if (!sum || *sum > kMaxBytes)
      return CannotWrite(name, fmt::format("the shape [{}]", fmt::join(tensor.shape, ", ")),
                         "no negative number, and fewer than 2^62 bytes in the file");
    total_ = *sum;
    sizes_.push_back(static_cast<uint64_t>(*bytes));
    return {};
  }

  std::vector<uint64_t> sizes_;
  int64_t total_ = 0;
};

}  // namespace

Result<FileLayout> EncodeDict(const Dict& dict, std::string_view archive_name) {
  if (archive_name.empty() || archive_name.size() > kMaxArchiveName ||
      archive_name.find('/') != std::string_view::npos)
    return CannotWrite({}, fmt::format("the archive name '{}'", archive_name),
                       fmt::format("1 to {} bytes without a '/'", kMaxArchiveName));
  Collector tensors;
  RESHARD_TRY(tensors.Add(dict, {}));

  zip::ArchiveLayout layout(archive_name);
  layout.AddLiteral("data.pkl", PickleDict(dict));
  layout.AddLiteral(".format_version", "1");
  layout.AddLiteral(".storage_alignment", "64");
  layout.AddLiteral("byteorder", "little");
  for (size_t i = 0; i < tensors.sizes().size(); ++i)
    layout.AddSlot(fmt::format("data/{}", i), tensors.sizes()[i]);
  layout.AddLiteral("version", "3\n");
  return std::move(layout).Finish();
}

Result<FileLayout> EncodeStateDict(std::span<const TensorDecl> tensors,
                                   std::string_view archive_name) {
  return EncodeDict(DictOf(tensors), archive_name);
}

}  // namespace reshard::torch_save
