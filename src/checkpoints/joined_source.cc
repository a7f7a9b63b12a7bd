#include "checkpoints/joined_source.h"

#include <filesystem>
#include <map>
#include <mutex>
#include <set>

#include <fmt/format.h>

#include "base/try.h"
#include "view/catalog_builder.h"

namespace reshard {
namespace {

// The name with every run of digits as one '#'.
std::string WithoutNumbers(const std::string& name) {
  std::string out;
  for (char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit)
      out += c;
    else if (!out.ends_with('#'))
      out += '#';
  }
  return out;
}

class JoinedSource final : public Source {
 public:
  JoinedSource(std::unique_ptr<Source> base, std::unique_ptr<Source> overlay)
      : base_(std::move(base)), overlay_(std::move(overlay)), notes_(base_->notes()) {}

  Result<> Join(const NameFilter& wanted, JoinedSources* joined) {
    std::vector<const Tensor*> taken;
    std::set<std::string_view> names;
    std::set<std::string> forms;
    for (const Tensor& tensor : overlay_->catalog().tensors()) {
      if (wanted && !wanted(tensor.name)) continue;
      taken.push_back(&tensor);
      names.insert(tensor.name);
      forms.insert(WithoutNumbers(tensor.name));
    }
    CatalogBuilder builder;
    for (const SourceFile& file : base_->catalog().files()) builder.AddFile(file);
    for (SourceFile file : overlay_->catalog().files()) {
      file.path = (std::filesystem::path(overlay_->root()) / file.path).string();
      builder.AddFile(std::move(file));
    }
    for (const Tensor& tensor : base_->catalog().tensors()) {
      if (names.contains(tensor.name)) {
        joined->replaced.push_back(tensor);
        continue;
      }
      AddTensor(*base_, tensor, 0, &builder);
      if (forms.contains(WithoutNumbers(tensor.name))) joined->left_over.push_back(tensor.name);
    }
    const auto offset = static_cast<uint32_t>(base_->catalog().files().size());
    for (const Tensor* tensor : taken) AddTensor(*overlay_, *tensor, offset, &builder);
    for (const UnreadableTensor& tensor : base_->catalog().unreadable())
      if (!names.contains(tensor.name)) builder.AddUnreadable(tensor);
    for (UnreadableTensor tensor : overlay_->catalog().unreadable()) {
      if (wanted && !wanted(tensor.name)) continue;
      tensor.file += offset;
      builder.AddUnreadable(std::move(tensor));
    }
    for (const Object& object : base_->catalog().objects()) builder.AddObject(object);
    notes_.push_back(
        fmt::format("{} tensors are taken from {}{}", taken.size(), overlay_->root(),
                    joined->replaced.empty()
                        ? ""
                        : fmt::format(", in the place of {}", joined->replaced.size())));
    if (!joined->left_over.empty())
      notes_.push_back(fmt::format(
          "{} tensors stay although {} has others like them, such as '{}'; --ignore drops them",
          joined->left_over.size(), overlay_->root(), joined->left_over[0]));
    RESHARD_ASSIGN(catalog_, std::move(builder).Build(root()));
    return {};
  }

  const Catalog& catalog() const override { return catalog_; }
  std::string_view kind() const override { return base_->kind(); }
  std::string_view evidence() const override { return base_->evidence(); }
  const std::string& root() const override { return base_->root(); }
  const std::vector<std::string>& notes() const override { return notes_; }
  std::map<std::string, int64_t> hints() const override { return base_->hints(); }
  StatePath PathOf(std::string_view name) const override { return base_->PathOf(name); }
  Result<std::optional<std::string>> ReadObject(const Object& object) const override {
    return base_->ReadObject(object);
  }
  std::map<std::string, std::string> metadata() const override { return base_->metadata(); }

  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const override {
    const bool from_base = chunk.file < base_->catalog().files().size();
    const Source& source = from_base ? *base_ : *overlay_;
    const Tensor* own = source.catalog().Find(tensor.name);
    // Both catalogs sort the chunks of a tensor by where they start.
    const auto number = &chunk - catalog_.chunks(tensor).data();
    RESHARD_ASSIGN(ChunkLayout layout,
                   source.Locate(*own, source.catalog().chunks(*own)[static_cast<size_t>(number)]));
    std::lock_guard lock(mutex_);
    const auto [at, fresh] = files_.try_emplace({from_base, layout.file},
                                                static_cast<uint32_t>(places_.size()));
    if (fresh) places_.emplace_back(from_base, layout.file);
    layout.file = at->second;
    return layout;
  }

  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override {
    std::pair<bool, uint32_t> place;
    {
      std::lock_guard lock(mutex_);
      place = places_[file];
    }
    return (place.first ? base_ : overlay_)->ReadAt(place.second, offset, out);
  }

 private:
  static void AddTensor(const Source& source, const Tensor& tensor, uint32_t first_file,
                        CatalogBuilder* builder) {
    builder->AddTensor(tensor.name, tensor.dtype, tensor.shape);
    for (const Chunk& chunk : source.catalog().chunks(tensor)) {
      const BoxView box = source.catalog().Box(tensor, chunk);
      builder->AddChunk(box.start, box.extent, first_file + chunk.file, chunk.offset, chunk.length);
    }
  }

  std::unique_ptr<Source> base_;
  std::unique_ptr<Source> overlay_;
  Catalog catalog_;
  std::vector<std::string> notes_;

  // What a layout's file number stands for: which source, and that one's number.
  mutable std::mutex mutex_;
  mutable std::map<std::pair<bool, uint32_t>, uint32_t> files_;
  mutable std::vector<std::pair<bool, uint32_t>> places_;
};

}  // namespace

Result<JoinedSources> JoinSources(std::unique_ptr<Source> base, std::unique_ptr<Source> overlay,
                                  const NameFilter& wanted) {
  JoinedSources joined;
  auto source = std::make_unique<JoinedSource>(std::move(base), std::move(overlay));
  RESHARD_TRY(source->Join(wanted, &joined));
  joined.source = std::move(source);
  return joined;
}

}  // namespace reshard
