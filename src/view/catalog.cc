#include "reshard/catalog.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/checked_math.h"
#include "base/try.h"
#include "view/catalog_builder.h"
#include "view/shape_text.h"

namespace reshard {
namespace {

// Ranks beyond this appear in no model; the bound keeps per-dimension work small.
constexpr size_t kMaxRank = 64;

Error TensorError(const Tensor& tensor, std::string file, std::string found, std::string expected) {
  return Error{.kind = ErrorKind::kSource,
               .file = std::move(file),
               .tensor = tensor.name,
               .found = std::move(found),
               .expected = std::move(expected),
               .help = "the checkpoint is damaged or incomplete: copy it again, or save it again"};
}

}  // namespace

int64_t Tensor::numel() const { return CheckedNumel(shape).value_or(0); }
int64_t Tensor::byte_size() const { return numel() * ItemSize(dtype); }

const Tensor* Catalog::Find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(tensors_, name, {}, &Tensor::name);
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

uint32_t CatalogBuilder::AddFile(SourceFile file) {
  catalog_.files_.push_back(std::move(file));
  return static_cast<uint32_t>(catalog_.files_.size() - 1);
}

void CatalogBuilder::AddTensor(std::string name, DType dtype, Shape shape) {
  catalog_.tensors_.push_back({.name = std::move(name),
                               .dtype = dtype,
                               .shape = std::move(shape),
                               .first_chunk = static_cast<uint32_t>(catalog_.chunks_.size())});
}

void CatalogBuilder::AddChunk(std::span<const int64_t> start, std::span<const int64_t> extent,
                              uint32_t file, uint64_t offset, uint64_t length) {
  if (std::ranges::find(extent, 0) != extent.end()) return;
  catalog_.chunks_.push_back({.offset = offset,
                              .length = length,
                              .file = file,
                              .box = static_cast<uint32_t>(catalog_.boxes_.size())});
  auto& boxes = catalog_.boxes_;
  boxes.insert(boxes.end(), start.begin(), start.end());
  boxes.insert(boxes.end(), extent.begin(), extent.end());
  ++catalog_.tensors_.back().chunk_count;
}

void CatalogBuilder::AddWhole(uint32_t file, uint64_t offset, uint64_t length) {
  const Shape shape = catalog_.tensors_.back().shape;
  AddChunk(Shape(shape.size(), 0), shape, file, offset, length);
}

Result<Catalog> CatalogBuilder::Build(const std::string& root) && {
  // Chunk and box positions are 32 bits wide to keep a million chunks small.
  if (catalog_.chunks_.size() > UINT32_MAX || catalog_.boxes_.size() > UINT32_MAX)
    return std::unexpected(
        Error{.kind = ErrorKind::kSource,
              .file = root,
              .found = fmt::format("the checkpoint has {} chunks", catalog_.chunks_.size()),
              .expected = "at most four billion chunk coordinates"});
  std::vector<BoxView> boxes;
  for (Tensor& tensor : catalog_.tensors_) {
    const auto numel = CheckedNumel(tensor.shape);
    if (!numel || tensor.shape.size() > kMaxRank || !CheckedMul(*numel, ItemSize(tensor.dtype)))
      return std::unexpected(TensorError(tensor, root,
                                         fmt::format("the shape is {}", ShapeText(tensor.shape)),
                                         "a size that fits in 63 bits"));
    const std::span<Chunk> chunks =
        std::span(catalog_.chunks_).subspan(tensor.first_chunk, tensor.chunk_count);
    const auto start = [&](const Chunk& chunk) { return catalog_.Box(tensor, chunk).start; };
    const auto before = [&](const Chunk& a, const Chunk& b) {
      return std::ranges::lexicographical_compare(start(a), start(b));
    };
    if (!std::ranges::is_sorted(chunks, before)) std::ranges::sort(chunks, before);

    boxes.clear();
    for (const Chunk& chunk : chunks) {
      const SourceFile& file = catalog_.files_[chunk.file];
      if (!InRange(chunk.offset, chunk.length, file.size))
        return std::unexpected(TensorError(tensor, root + "/" + file.path,
                                           fmt::format("the file ends at byte {}", file.size),
                                           fmt::format("bytes {} to {} for this tensor",
                                                       chunk.offset, chunk.offset + chunk.length)));
      boxes.push_back(catalog_.Box(tensor, chunk));
    }
    if (auto tiled = CheckTiling(tensor.shape, boxes); !tiled) {
      tiled.error().file = root;
      tiled.error().tensor = tensor.name;
      return std::unexpected(std::move(tiled).error());
    }
  }
  std::ranges::sort(catalog_.tensors_, {}, &Tensor::name);
  const auto same = std::ranges::adjacent_find(catalog_.tensors_, {}, &Tensor::name);
  if (same != catalog_.tensors_.end())
    return std::unexpected(
        TensorError(*same, root, "two tensors have this name", "each name once"));
  std::ranges::sort(catalog_.unreadable_, {}, &UnreadableTensor::name);
  std::ranges::sort(catalog_.objects_, {}, &Object::name);
  return std::move(catalog_);
}

}  // namespace reshard
