#ifndef RESHARD_VIEW_VIEW_H_
#define RESHARD_VIEW_VIEW_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "reshard/catalog.h"
#include "reshard/dtype.h"
#include "reshard/error.h"

namespace reshard {

/// A lazy tensor: it says for each of its elements which element of a source tensor that is. A
/// cheap value that shares its nodes; immutable, so safe to use from several threads.
///
/// Shapes, bounds and types are checked when a view is made: errors are of kind kMapping.
class View {
 public:
  enum class Op : uint8_t { kSource, kFill, kSlice, kConcat, kReshape, kPermute, kRepeat, kCast };

  /// The whole tensor number `tensor` of a catalog.
  static View Source(uint32_t tensor, DType dtype, Shape shape);

  /// A tensor of one value. `value` must be one that `dtype` can hold: any number for the castable
  /// types, zero for the others.
  static Result<View> Fill(DType dtype, Shape shape, double value = 0);

  /// Elements [start, start + length) along `dim`.
  static Result<View> Slice(const View& of, size_t dim, int64_t start, int64_t length);

  /// The parts, one after the other along `dim`. At least one; alike in type and other dimensions.
  static Result<View> Concat(std::vector<View> parts, size_t dim);

  /// The same elements in row-major order, in another shape.
  static Result<View> Reshape(const View& of, Shape shape);

  /// Dimension i is dimension `dims[i]` of `of`: each stands in `dims` once.
  static Result<View> Permute(const View& of, std::vector<size_t> dims);

  /// The same elements once more: a copy that a rule declares, which the proof that each element of
  /// the source has one place does not count.
  static View Repeat(const View& of);

  /// Each element converted. Both types castable (IsCastable); at most one cast on the way from a
  /// view to any of its sources. A cast to the type that it has is the view itself.
  static Result<View> Cast(const View& of, DType dtype);

  DType dtype() const { return node_->dtype; }
  const Shape& shape() const { return node_->shape; }
  /// Bytes of all its elements; fits in 63 bits, as the bytes of its sources do.
  uint64_t byte_size() const;

  Op op() const { return node_->op; }
  uint32_t source() const { return node_->source; }               ///< kSource
  size_t dim() const { return node_->dim; }                       ///< kSlice, kConcat
  int64_t start() const { return node_->starts.front(); }         ///< kSlice
  double value() const { return node_->value; }                   ///< kFill
  std::span<const size_t> dims() const { return node_->dims; }    ///< kPermute
  std::span<const View> inputs() const { return node_->inputs; }  ///< none for kSource and kFill
  /// kConcat: where each part starts along dim().
  std::span<const int64_t> starts() const { return node_->starts; }

  /// The view as text, e.g. cast("a", bfloat16); sources are named from `catalog`.
  std::string ToString(const Catalog& catalog) const;

 private:
  struct Node {
    Op op;
    DType dtype;
    Shape shape;
    uint32_t source = 0;
    size_t dim = 0;
    bool casts = false;  // a cast lies at or below this node
    double value = 0;
    std::vector<View> inputs{};
    std::vector<int64_t> starts{};
    std::vector<size_t> dims{};
  };
  explicit View(Node node) : node_(std::make_shared<const Node>(std::move(node))) {}
  std::shared_ptr<const Node> node_;
};

}  // namespace reshard

#endif  // RESHARD_VIEW_VIEW_H_
