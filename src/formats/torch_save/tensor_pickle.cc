#include "formats/torch_save/tensor_pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/checked_math.h"
#include "formats/torch_save/storage_class.h"

namespace reshard::torch_save {
namespace {

using pickle::Op;

std::vector<int64_t> ContiguousStrides(std::span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * std::max<int64_t>(shape[i], 1);
  return strides;
}

}  // namespace

void TensorPickler::Write(DType dtype, std::span<const int64_t> shape, size_t storage) {
  const bool has_class = StorageClassName(dtype).has_value();
  if (has_class)
    out_.Global("torch._utils", "_rebuild_tensor_v2", &rebuild_v2_);
  else
    out_.Global("torch._utils", "_rebuild_tensor_v3", &rebuild_v3_);
  out_.Put(Op::kMark);
  WriteStorage(dtype, *CheckedNumel(shape), storage);
  out_.Int(0);
  WriteTuple(shape);
  WriteTuple(ContiguousStrides(shape));
  out_.Bool(false);                                           // requires no gradient
  out_.Global("collections", "OrderedDict", &ordered_dict_);  // has no hooks
  out_.Put(Op::kEmptyTuple);
  out_.Put(Op::kReduce);
  out_.Memoize();
  if (!has_class) out_.Global("torch", DTypeName(dtype), &by_dtype_[static_cast<size_t>(dtype)]);
  out_.Put(Op::kTuple);
  out_.Memoize();
  out_.Put(Op::kReduce);
  out_.Memoize();
}

void TensorPickler::WriteStorage(DType dtype, int64_t numel, size_t storage) {
  const auto storage_class = StorageClassName(dtype);
  out_.Put(Op::kMark);
  out_.Text("storage", &storage_);
  if (storage_class)
    out_.Global("torch", *storage_class, &by_dtype_[static_cast<size_t>(dtype)]);
  else
    out_.Global("torch.storage", "UntypedStorage", &untyped_);
  out_.Text(fmt::format("{}", storage));
  out_.Memoize();
  out_.Text("cpu", &cpu_);
  out_.Int(storage_class ? numel : numel * ItemSize(dtype));
  out_.Put(Op::kTuple);
  out_.Memoize();
  out_.Put(Op::kBinPersId);
}

void TensorPickler::WriteTuple(std::span<const int64_t> values) {
  out_.IntTuple(values);
  if (!values.empty()) out_.Memoize();
}

}  // namespace reshard::torch_save
