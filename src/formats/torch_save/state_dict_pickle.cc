#include "formats/torch_save/state_dict_pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/checked_math.h"
#include "base/endian.h"
#include "formats/torch_save/storage_class.h"

namespace reshard::torch_save {
namespace {

constexpr size_t kBatch = 1000;  // items that a pickler sets at once

// Writes opcodes with memo slots numbered as CPython's pickler numbers them.
class PickleWriter {
 public:
  void Op(std::string_view code) { out_ += code; }

  // Stores the top of the stack in the next memo slot.
  uint32_t Put() {
    if (slots_ < 256) {
      out_ += 'q';
      AppendLittle(static_cast<uint8_t>(slots_), &out_);
    } else {
      out_ += 'r';
      AppendLittle(slots_, &out_);
    }
    return slots_++;
  }

  void Text(std::string_view text) {
    out_ += 'X';
    AppendLittle(static_cast<uint32_t>(text.size()), &out_);
    out_ += text;
    Put();
  }

  // A constant, which is written where it is first used and taken from the memo afterwards.
  void Text(std::string_view text, std::optional<uint32_t>* slot) {
    if (Get(*slot)) return;
    *slot = slots_;
    Text(text);
  }

  void Global(std::string_view module, std::string_view name, std::optional<uint32_t>* slot) {
    if (Get(*slot)) return;
    out_ += fmt::format("c{}\n{}\n", module, name);
    *slot = Put();
  }

  void Int(int64_t number) {
    if (number >= 0 && number <= 0xff) {
      out_ += 'K';
      AppendLittle(static_cast<uint8_t>(number), &out_);
    } else if (number >= 0 && number <= 0xffff) {
      out_ += 'M';
      AppendLittle(static_cast<uint16_t>(number), &out_);
    } else if (std::in_range<int32_t>(number)) {
      out_ += 'J';
      AppendLittle(static_cast<int32_t>(number), &out_);
    } else {
      Long(number);
    }
  }

  void Float(double number) {
    out_ += 'G';
    AppendLittle(std::byteswap(std::bit_cast<uint64_t>(number)), &out_);  // big-endian
  }

  void IntTuple(std::span<const int64_t> numbers) {
    if (numbers.empty()) return Op(")");
    const bool marked = numbers.size() > 3;
    if (marked) Op("(");
    for (const int64_t number : numbers) Int(number);
    constexpr std::string_view kTuple123 = "\x85\x86\x87";
    Op(marked ? "t" : kTuple123.substr(numbers.size() - 1, 1));
    Put();
  }

  std::string Take() && { return std::move(out_); }

 private:
  bool Get(std::optional<uint32_t> slot) {
    if (!slot) return false;
    if (*slot < 256) {
      out_ += 'h';
      AppendLittle(static_cast<uint8_t>(*slot), &out_);
    } else {
      out_ += 'j';
      AppendLittle(*slot, &out_);
    }
    return true;
  }

  // LONG1: the fewest bytes whose top bit is the sign. Only numbers beyond 32 bits get here.
  void Long(int64_t number) {
    std::string bytes;
    AppendLittle(number, &bytes);
    const char sign = number < 0 ? '\xff' : '\0';
    while (bytes.back() == sign && ((bytes[bytes.size() - 2] ^ sign) & 0x80) == 0) bytes.pop_back();
    out_ += '\x8a';
    AppendLittle(static_cast<uint8_t>(bytes.size()), &out_);
    out_ += bytes;
  }

  std::string out_;
  uint32_t slots_ = 0;
};

std::vector<int64_t> ContiguousStrides(std::span<const int64_t> shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;)
    strides[i - 1] = strides[i] * std::max<int64_t>(shape[i], 1);
  return strides;
}

// Memo slots of the constants that every tensor uses.
struct Constants {
  std::optional<uint32_t> rebuild_v2, rebuild_v3, storage, cpu, untyped, ordered_dict;
  std::array<std::optional<uint32_t>, kDTypeCount> by_dtype;  // storage class, or dtype for v3
};

void WriteTensor(const TensorDecl& tensor, size_t key, Constants* slots, PickleWriter* out) {
  const auto storage_class = StorageClassName(tensor.dtype);
  auto& dtype_slot = slots->by_dtype[static_cast<size_t>(tensor.dtype)];
  const int64_t numel = *CheckedNumel(tensor.shape);

  if (storage_class)
    out->Global("torch._utils", "_rebuild_tensor_v2", &slots->rebuild_v2);
  else
    out->Global("torch._utils", "_rebuild_tensor_v3", &slots->rebuild_v3);
  out->Op("((");
  out->Text("storage", &slots->storage);
  if (storage_class)
    out->Global("torch", *storage_class, &dtype_slot);
  else
    out->Global("torch.storage", "UntypedStorage", &slots->untyped);
  out->Text(fmt::format("{}", key));
  out->Text("cpu", &slots->cpu);
  out->Int(storage_class ? numel : numel * ItemSize(tensor.dtype));
  out->Op("t");
  out->Put();
  out->Op("Q");
  out->Int(0);
  out->IntTuple(tensor.shape);
  out->IntTuple(ContiguousStrides(tensor.shape));
  out->Op("\x89");                                                  // requires no gradient
  out->Global("collections", "OrderedDict", &slots->ordered_dict);  // has no hooks
  out->Op(")R");
  out->Put();
  if (!storage_class) out->Global("torch", DTypeName(tensor.dtype), &dtype_slot);
  out->Op("t");
  out->Put();
  out->Op("R");
  out->Put();
}

class DictPickler {
 public:
  std::string Pickle(const Dict& dict) && {
    out_.Op("\x80\x02");
    Write(dict);
    out_.Op(".");
    return std::move(out_).Take();
  }

 private:
  void Write(const Dict& dict) {
    out_.Op("}");
    out_.Put();
    const std::span<const Item> items = dict.items;
    if (items.size() == 1) {
      WriteItems(items);
      out_.Op("s");
    } else if (!items.empty()) {
      // A full last batch is followed by an empty one, as CPython's pickler does it.
      size_t next = 0;
      for (size_t batch = kBatch; batch == kBatch; next += batch) {
        batch = std::min(kBatch, items.size() - next);
        out_.Op("(");
        WriteItems(items.subspan(next, batch));
        out_.Op("u");
      }
    }
  }

  void WriteItems(std::span<const Item> items) {
    for (const Item& item : items) {
      out_.Text(item.key);
      std::visit([this](const auto& value) { Write(value); }, item.value);
    }
  }

  void Write(const TensorDecl* tensor) { WriteTensor(*tensor, tensors_++, &slots_, &out_); }
  void Write(int64_t number) { out_.Int(number); }
  void Write(double number) { out_.Float(number); }
  void Write(const std::string& text) { out_.Text(text); }

  PickleWriter out_;
  Constants slots_;
  size_t tensors_ = 0;
};

}  // namespace

std::string PickleDict(const Dict& dict) { return DictPickler().Pickle(dict); }

}  // namespace reshard::torch_save
