#ifndef RESHARD_VIEW_CATALOG_BUILDER_H_
#define RESHARD_VIEW_CATALOG_BUILDER_H_

#include <span>
#include <string>
#include <vector>

#include "reshard/catalog.h"

namespace reshard {

/// Collects what a checkpoint holds and checks it once, at the end: every kind of source makes its
/// catalog through this.
class CatalogBuilder {
 public:
  /// Returns the file's index.
  uint32_t AddFile(SourceFile file);
  const std::vector<SourceFile>& files() const { return catalog_.files_; }

  /// Begins a tensor; its chunks follow by AddChunk.
  void AddTensor(std::string name, DType dtype, Shape shape);

  /// One chunk of the tensor added last. Spans of the tensor's rank. Empty chunks may be given and
  /// are left out.
  void AddChunk(std::span<const int64_t> start, std::span<const int64_t> extent, uint32_t file,
                uint64_t offset, uint64_t length);

  /// The tensor added last lies in one piece.
  void AddWhole(uint32_t file, uint64_t offset, uint64_t length);

  /// Takes over chunks that a format has decoded; tensors then refer to them by position.
  /// Not to be mixed with AddTensor.
  void TakeChunks(std::vector<Chunk> chunks, std::vector<int64_t> boxes) {
    catalog_.chunks_ = std::move(chunks);
    catalog_.boxes_ = std::move(boxes);
  }

  /// A tensor of chunks that TakeChunks brought: `count` from position `first`, none empty.
  void AddTensorOfChunks(std::string name, DType dtype, Shape shape, uint32_t first,
                         uint32_t count) {
    catalog_.tensors_.push_back({.name = std::move(name),
                                 .dtype = dtype,
                                 .shape = std::move(shape),
                                 .first_chunk = first,
                                 .chunk_count = count});
  }

  void AddUnreadable(UnreadableTensor tensor) { catalog_.unreadable_.push_back(std::move(tensor)); }
  void AddObject(Object object) { catalog_.objects_.push_back(std::move(object)); }

  /// Checks the whole and gives it: every size and count in range, no name twice, every chunk
  /// within its tensor and its file, and the chunks of each tensor cover it exactly once. Errors
  /// are of kind kSource and name `root`, the file and the tensor.
  Result<Catalog> Build(const std::string& root) &&;

 private:
  Catalog catalog_;
};

/// Checks that boxes tile a tensor: none reaches outside, none overlaps another, none is missing;
/// or, with `times` > 0 other than 1, that each element lies in that many of them.
/// `boxes` holds start and extent of each box, one after the other (2 * rank values a box), sorted
/// by start. On failure the error says which box or where the hole is (kind kSource, no file).
/// O(n log n) for tilings that straight cuts can make; never more than the boxes' grid otherwise.
Result<> CheckTiling(std::span<const int64_t> shape, std::span<const BoxView> boxes,
                     size_t times = 1);

}  // namespace reshard

#endif  // RESHARD_VIEW_CATALOG_BUILDER_H_
