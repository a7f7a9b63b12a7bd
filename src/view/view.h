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
  enum class Op : uint8_t {
    kSource, kFill, kSlice, kConcat, kReshape, kPermute, kRepeat, kCast, kDequantize
  };

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

  /// Each of the values times the scale of its block, in float32. `values` is a whole tensor of a
  /// float8 type, `scales` one of float32, bfloat16, float16 or float8_e8m0fnu; both are sources.
  /// `block` says how many values share a scale along each dimension of theirs: `scales` has
  /// ceil(extent / block) of them there, the last of a smaller block; a single scale may have any
  /// shape.
  static Result<View> Dequantize(const View& values, const View& scales, Shape block);

  DType dtype() const;
  const Shape& shape() const;
  /// Bytes of all its elements; fits in 63 bits, as the bytes of its sources do.
  uint64_t byte_size() const;

  Op op() const;
  uint32_t source() const;                  ///< kSource
  size_t dim() const;                       ///< kSlice, kConcat
  int64_t start() const;                    ///< kSlice
  double value() const;                     ///< kFill
  std::span<const size_t> dims() const;     ///< kPermute
  std::span<const View> inputs() const;     ///< none for kSource and kFill; values, scales
  std::span<const int64_t> starts() const;  ///< kConcat: where each part starts along dim()
  std::span<const int64_t> block() const;   ///< kDequantize

  /// The view as text, e.g. cast("a", bfloat16); sources are named from `catalog`.
  std::string ToString(const Catalog& catalog) const;

  /// Appends what ToString gives.
  void AppendTo(std::string* text, const Catalog& catalog) const;

 private:
  struct Node;
  struct Lists;
  explicit View(Node node);
  explicit View(std::shared_ptr<const Node> node) : node_(std::move(node)) {}
  std::shared_ptr<const Node> node_;  // none only in a node without input
};

// What only a few nodes have. Plans of large models hold a million nodes.
struct View::Lists {
  std::vector<View> inputs{};
  std::vector<int64_t> starts{};
  std::vector<size_t> dims{};
  Shape block{};
};

struct View::Node {
  Op op;
  DType dtype;
  bool casts = false;  // a cast lies at or below this node
  uint32_t source = 0;
  size_t dim = 0;
  int64_t start = 0;
  double value = 0;
  Shape shape;
  View input{nullptr};                   // of the nodes that have one
  std::shared_ptr<const Lists> lists{};  // of kConcat, kPermute and kDequantize
};

inline DType View::dtype() const { return node_->dtype; }
inline const Shape& View::shape() const { return node_->shape; }
inline View::Op View::op() const { return node_->op; }
inline uint32_t View::source() const { return node_->source; }
inline size_t View::dim() const { return node_->dim; }
inline int64_t View::start() const { return node_->start; }
inline double View::value() const { return node_->value; }

}  // namespace reshard

#endif  // RESHARD_VIEW_VIEW_H_
