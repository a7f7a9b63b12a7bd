#include "formats/torch_save/tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/checked_math.h"
#include "base/try.h"
#include "formats/torch_save/summary.h"
#include "formats/torch_save/value_stack.h"

namespace reshard::torch_save {
namespace {

using pickle::Kind;
using pickle::Value;

constexpr int kMaxWrappers = 8;  // a Parameter of a subclass of a tensor is two

// Values that the attributes of one tensor may be before they count as holding tensors.
constexpr uint64_t kMaxAttributes = 1000;

// A function of torch and what it would be called with.
struct Call {
  std::string_view name;
  std::span<const Value> args;
  const Value* type = nullptr;  // the outermost class that is not torch's own, if one is named
  bool has_more = false;        // tensors stand in the attributes too: a scale, a shape
};

bool IsStorage(const Value& value) {
  if (!value.is(Kind::kPersistentId)) return false;
  const Value& id = value.persistent_id();
  return id.is(Kind::kTuple) && !id.items().empty() && id.items()[0].is(Kind::kString) &&
         id.items()[0].text() == "storage";
}

bool IsRebuilder(const Value& callable) {
  return callable.is(Kind::kGlobal) &&
         (callable.module() == "torch._utils" || callable.module() == "torch._tensor") &&
         callable.name().starts_with("_rebuild");
}

// Whether a tensor or a storage stands in `value`, or it holds more than `*budget` values.
bool HoldsTensors(const Value& value, uint64_t* budget) {
  ValueStack stack(value);
  while (!stack.empty()) {
    if (stack.looked_at() > *budget) return true;
    const Value next = stack.Pop();
    if (IsTensor(next) || IsStorage(next)) return true;
  }
  *budget -= std::min(*budget, stack.looked_at());
  return false;
}

// The innermost call: what a Parameter or a subclass wraps. Nothing where it is no tensor.
//
//   torch.nn.Parameter(w)    _rebuild_parameter(_rebuild_tensor_v2(storage, ...), True, {})
//   a subclass               _rebuild_from_type_v2(_rebuild_tensor_v2, Its, (storage, ...), state)
std::optional<Call> Unwrap(const Value& value) {
  const Value* tensor = &value;
  const Value* type = nullptr;
  bool has_more = false;
  const auto look_at_state = [&](std::span<const Value> args) {
    uint64_t budget = kMaxAttributes;
    if (args.size() > 3) has_more |= HoldsTensors(args[3], &budget);
  };
  for (int wrappers = 0; wrappers < kMaxWrappers; ++wrappers) {
    if (!tensor->is(Kind::kObject)) return std::nullopt;
    const pickle::ObjectParts& parts = tensor->object();
    if (!IsRebuilder(parts.callable) || !parts.args.is(Kind::kTuple)) return std::nullopt;
    const Call call{parts.callable.name(), parts.args.items(), type, has_more};
    if (call.name.starts_with("_rebuild_parameter") && !call.args.empty()) {
      look_at_state(call.args);
      tensor = &call.args[0];
      continue;
    }
    const bool from_type = call.name.starts_with("_rebuild_from_type") && call.args.size() >= 3;
    if (!from_type) return call;
    const bool of_torch = call.args[1].is(Kind::kGlobal) && call.args[1].module() == "torch";
    if (!type && !of_torch) type = &call.args[1];
    look_at_state(call.args);
    const Value& inner = call.args[0];
    if (!IsRebuilder(inner) || !call.args[2].is(Kind::kTuple))
      return Call{call.name, call.args, type, has_more};
    const Call inner_call{inner.name(), call.args[2].items(), type, has_more};
    if (!inner_call.name.starts_with("_rebuild_parameter") || inner_call.args.empty())
      return inner_call;
    look_at_state(inner_call.args);
    tensor = &inner_call.args[0];
  }
  return std::nullopt;
}

bool IsStrided(std::string_view name) {
  return name == "_rebuild_tensor_v2" || name == "_rebuild_tensor_v3" || name == "_rebuild_tensor";
}

// A tuple of sizes: bare, or a torch.Size of one.
Result<std::vector<int64_t>> ParseExtents(const Value& value, const std::string& file) {
  const Value* tuple = &value;
  if (value.IsObject("torch", "Size") && value.object().args.is(Kind::kTuple) &&
      value.object().args.items().size() == 1)
    tuple = &value.object().args.items()[0];
  const auto bad = [&] {
    return BadPickle(file, fmt::format("a tensor's sizes or strides are {}", Summarize(value)),
                     "a tuple of non-negative integers");
  };
  if (!tuple->is(Kind::kTuple) && !tuple->is(Kind::kList)) return bad();
  std::vector<int64_t> extents;
  extents.reserve(tuple->items().size());
  for (const Value& item : tuple->items()) {
    if (!item.is(Kind::kInt) || item.as_int() < 0) return bad();
    extents.push_back(item.as_int());
  }
  return extents;
}

// Reads the last argument of version 2 and 3: {'conj': True} or {'neg': True}.
Result<> ParseFlags(const Value& value, const std::string& file, TensorCall* tensor) {
  if (value.is(Kind::kNone)) return {};
  if (value.is(Kind::kDict)) {
    size_t known = 0;
    for (auto [key, flag] : {std::pair{"conj", &tensor->conjugate}, {"neg", &tensor->negate}}) {
      const Value* found = value.Find(key);
      if (!found || !found->is(Kind::kBool)) continue;
      *flag = found->as_bool();
      ++known;
    }
    if (known == value.entries().size()) return {};
  }
  return BadPickle(file, fmt::format("a tensor's metadata is {}", Summarize(value)),
                   "{'conj': True} or {'neg': True}");
}

Result<DType> ParseDTypeGlobal(const Value& value, const std::string& file) {
  if (value.is(Kind::kGlobal) && value.module() == "torch")
    if (const auto dtype = ParseDType(value.name())) return *dtype;
  return BadPickle(file, fmt::format("a tensor's element type is {}", Summarize(value)),
                   "one of torch's, such as torch.uint16");
}

// Bytes from the start of the storage to the end of the last element of a tensor that has elements;
// nothing on overflow.
std::optional<uint64_t> Reach(const TensorCall& tensor) {
  int64_t last = tensor.storage_offset;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    const auto step = CheckedMul(tensor.shape[i] - 1, tensor.strides[i]);
    const auto sum = step ? CheckedAdd(last, *step) : std::nullopt;
    if (!sum) return std::nullopt;
    last = *sum;
  }
  const auto elements = CheckedAdd(last, int64_t{1});
  const auto bytes = elements ? CheckedMul(*elements, ItemSize(tensor.dtype)) : std::nullopt;
  if (!bytes) return std::nullopt;
  return static_cast<uint64_t>(*bytes);
}

Result<> CheckExtent(const TensorCall& tensor, const std::string& file) {
  const auto numel = CheckedNumel(tensor.shape);
  if (!numel || !CheckedMul(*numel, ItemSize(tensor.dtype)))
    return BadPickle(file, fmt::format("a tensor of shape [{}]", fmt::join(tensor.shape, ", ")),
                     "fewer than 2^63 bytes");
  const auto reach = *numel == 0 ? std::optional<uint64_t>(0) : Reach(tensor);
  if (!reach || *reach > tensor.storage.view_bytes)
    return BadPickle(
        file,
        fmt::format(
            "a {} tensor of shape [{}], strides [{}] and offset {} in a storage of {} bytes",
            DTypeName(tensor.dtype), fmt::join(tensor.shape, ", "), fmt::join(tensor.strides, ", "),
            tensor.storage_offset, tensor.storage.view_bytes),
        "a storage that holds every element");
  return {};
}

Result<TensorCall> ParseStrided(const Call& call, const std::string& file) {
  const bool v3 = call.name == "_rebuild_tensor_v3";
  const size_t required = call.name == "_rebuild_tensor" ? 4 : v3 ? 7 : 6;
  if (call.args.size() < required || call.args.size() > required + 1)
    return BadPickle(file, fmt::format("{} with {} arguments", call.name, call.args.size()),
                     fmt::format("{} arguments", required));
  const Value& offset = call.args[1];
  if (!offset.is(Kind::kInt) || offset.as_int() < 0)
    return BadPickle(file, fmt::format("a tensor's storage offset is {}", Summarize(offset)),
                     "a non-negative integer");
  TensorCall tensor;
  RESHARD_ASSIGN(tensor.storage, ParseStorage(call.args[0], file));
  tensor.dtype = tensor.storage.dtype;
  tensor.storage_offset = offset.as_int();
  RESHARD_ASSIGN(tensor.shape, ParseExtents(call.args[2], file));
  RESHARD_ASSIGN(tensor.strides, ParseExtents(call.args[3], file));
  if (v3) {
    RESHARD_ASSIGN(tensor.dtype, ParseDTypeGlobal(call.args[6], file));
  }
  if (required != 4 && call.args.size() > required)
    RESHARD_TRY(ParseFlags(call.args[required], file, &tensor));
  if (tensor.shape.size() != tensor.strides.size())
    return BadPickle(file,
                     fmt::format("a tensor of {} dimensions has {} strides", tensor.shape.size(),
                                 tensor.strides.size()),
                     "one stride for each dimension");
  RESHARD_TRY(CheckExtent(tensor, file));
  return tensor;
}

struct TensorWord {
  std::string_view part;  // of the rebuilding function's name
  std::string_view words;
};

constexpr std::array<TensorWord, 5> kUnsupported = {{
    {"qtensor", "a quantized tensor"},
    {"sparse", "a sparse tensor"},
    {"meta", "a meta tensor, which has no data"},
    {"nested", "a nested tensor"},
    {"wrapper_subclass", "a tensor of a class that wraps others"},
}};

std::string OfClass(const Value* type) {
  if (!type) return {};
  return fmt::format(" of the class {}", Summarize(*type));
}

}  // namespace

bool IsTensor(const Value& value) {
  return value.is(Kind::kObject) && IsRebuilder(value.object().callable);
}

std::optional<std::string> UnsupportedTensor(const Value& value) {
  if (!IsTensor(value)) return std::nullopt;
  const auto call = Unwrap(value);
  if (!call) return "a tensor of an unknown kind";
  if (IsStrided(call->name) && !call->has_more) return std::nullopt;
  if (IsStrided(call->name))
    return fmt::format("a tensor{} with other tensors among its attributes", OfClass(call->type));
  for (const TensorWord& word : kUnsupported)
    if (call->name.find(word.part) != std::string_view::npos)
      return call->type ? fmt::format("a tensor{}", OfClass(call->type)) : std::string(word.words);
  return fmt::format("a tensor of an unknown kind{}", OfClass(call->type));
}

std::optional<std::string> TensorHolder(const Value& value, uint64_t* budget) {
  if (!HoldsTensors(value, budget)) return std::nullopt;
  if (value.is(Kind::kPersistentId)) return "a bare storage";
  const std::string_view what = value.is(Kind::kTuple)  ? "a tuple"
                                : value.is(Kind::kList) ? "a list"
                                : value.is(Kind::kSet)  ? "a set"
                                                        : "an object";
  if (!value.is(Kind::kObject)) return fmt::format("{} with tensors in it", what);
  return fmt::format("{}{} with tensors in it", what, OfClass(&value.object().callable));
}

Result<TensorCall> ParseTensor(const Value& value, const std::string& file) {
  const auto call = Unwrap(value);
  if (!call || !IsStrided(call->name) || call->has_more)
    return BadPickle(file, Summarize(value), "a dense tensor (torch._utils._rebuild_tensor_v2)",
                     "save it as a dense tensor, or leave it out");
  return ParseStrided(*call, file);
}

TensorEntry PlaceTensor(TensorCall tensor, uint64_t storage_offset, bool big_endian) {
  return TensorEntry{.dtype = tensor.dtype,
                     .shape = std::move(tensor.shape),
                     .strides = std::move(tensor.strides),
                     .storage_offset = tensor.storage_offset,
                     .data_offset = storage_offset + tensor.storage.view_offset,
                     .storage_bytes = tensor.storage.view_bytes,
                     .conjugate = tensor.conjugate,
                     .negate = tensor.negate,
                     .big_endian = big_endian};
}

}  // namespace reshard::torch_save
