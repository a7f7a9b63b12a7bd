#ifndef RESHARD_ENGINE_ENGINE_TEST_SUPPORT_H_
#define RESHARD_ENGINE_ENGINE_TEST_SUPPORT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "plan/plan_data.h"
#include "reshard/source.h"
#include "view/catalog_builder.h"

namespace reshard {

/// A chunk of a tensor of a FakeSource, and how its elements are stored.
struct StoredBox {
  Shape start;
  Shape extent;
  bool transposed = false;  ///< the first dimension is the densest
  int64_t spread = 1;       ///< elements from one to the next along the densest dimension
  uint32_t file = 0;        ///< of the catalog
};

/// A checkpoint in memory. Tensors are added as the bytes of their row-major elements; then Open.
class FakeSource final : public Source {
 public:
  /// In one piece, row by row.
  void Add(const std::string& name, DType dtype, const Shape& shape, const std::string& elements);
  void Add(const std::string& name, DType dtype, const Shape& shape, const std::string& elements,
           const std::vector<StoredBox>& boxes);
  void Open(int64_t mtime_ns = 0);

  /// A view of the whole tensor `name`.
  View Of(const std::string& name) const;
  /// What was given to Add.
  const std::string& Elements(const std::string& name) const { return elements_.at(name); }

  /// Called before each read; its error becomes the read's.
  std::function<Result<>(uint64_t offset, size_t length)> on_read;

  const Catalog& catalog() const override { return catalog_; }
  std::string_view kind() const override { return "fake"; }
  std::string_view evidence() const override { return "a test"; }
  const std::string& root() const override { return root_; }
  const std::vector<std::string>& notes() const override { return notes_; }
  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk& chunk) const override;
  Result<> ReadAt(uint32_t file, uint64_t offset, std::span<std::byte> out) const override;

  std::function<Result<>(const Tensor&)> on_locate;

 private:
  std::vector<std::function<void(CatalogBuilder&)>> additions_;
  std::string bytes_ = "magic";              // Offset 0 is no one's.
  uint32_t files_ = 1;
  std::map<uint64_t, ChunkLayout> layouts_;  // by the chunk's offset
  std::map<std::string, std::string> elements_;
  Catalog catalog_;
  std::string root_ = "fake";
  std::vector<std::string> notes_;
};

/// Visits the coordinates of a shape in row-major order.
void ForEachElement(const Shape& shape, const std::function<void(const Shape&)>& visit);

/// One element of a dequantized tensor, by definition: the value at `at` times its scale, as `to`.
std::string DequantizedAt(const View& dequantize, const Shape& at, DType to,
                          const FakeSource& source);

/// The row-major bytes of `view` over `source`, made element by element from what a view means.
std::string Materialize(const View& view, const FakeSource& source);

/// All bytes of a planned file without late bytes, by definition.
std::string Expected(const FilePlan& file, const FakeSource& source);

/// `count` bytes that do not repeat soon.
std::string Noise(size_t count, uint32_t seed);

/// The bytes of `values`.
template <typename T>
std::string BytesOfValues(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace reshard

#endif  // RESHARD_ENGINE_ENGINE_TEST_SUPPORT_H_
