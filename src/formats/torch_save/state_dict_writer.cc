#include "formats/torch_save/state_dict_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/try.h"
#include "formats/torch_save/archive_writer.h"
#include "formats/torch_save/state_dict_pickle.h"

namespace reshard::torch_save {
namespace {

constexpr size_t kMaxArchiveName = 255;
constexpr size_t kMaxText = size_t{1} << 20;
constexpr size_t kShownText = 60;
constexpr uint64_t kMaxBytes = uint64_t{1} << 62;

std::unexpected<Error> CannotWrite(std::string_view tensor, std::string found,
                                   std::string expected) {
  return std::unexpected(Error{.kind = ErrorKind::kMapping,
                               .tensor = std::string(tensor),
                               .found = std::move(found),
                               .expected = std::move(expected)});
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
    RESHARD_ASSIGN(const uint64_t bytes, CountBytes(tensor.dtype, tensor.shape, name));
    total_ += bytes;  // cannot wrap: both were below 2^62
    if (total_ >= kMaxBytes)
      return CannotWrite(name, "with it the file has 2^62 bytes or more", "fewer than 2^62 bytes");
    sizes_.push_back(bytes);
    return {};
  }

  std::vector<uint64_t> sizes_;
  uint64_t total_ = 0;
};

}  // namespace

Result<FileLayout> EncodeDict(const Dict& dict, std::string_view archive_name) {
  if (archive_name.empty() || archive_name.size() > kMaxArchiveName ||
      archive_name.find('/') != std::string_view::npos)
    return CannotWrite({}, fmt::format("the archive name '{}'", archive_name),
                       fmt::format("1 to {} bytes without a '/'", kMaxArchiveName));
  Collector tensors;
  RESHARD_TRY(tensors.Add(dict, {}));
  return LayoutArchive(archive_name, PickleDict(dict), tensors.sizes());
}

Result<FileLayout> EncodeStateDict(std::span<const TensorDecl> tensors,
                                   std::string_view archive_name) {
  return EncodeDict(DictOf(tensors), archive_name);
}

}  // namespace reshard::torch_save
