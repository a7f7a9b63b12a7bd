#include "formats/pickle/writer.h"

#include <fmt/format.h>

#include <bit>
#include <iterator>
#include <utility>

#include "base/endian.h"

namespace reshard::pickle {
namespace {

constexpr uint32_t kShortSlots = 256;  // that BINPUT and BINGET can name

}  // namespace

uint32_t Writer::Memoize() {
  if (slots_ < kShortSlots) {
    Put(Op::kBinPut);
    AppendLittle(static_cast<uint8_t>(slots_), &out_);
  } else {
    Put(Op::kLongBinPut);
    AppendLittle(slots_, &out_);
  }
  return slots_++;
}

bool Writer::Fetch(Slot slot) {
  if (!slot) return false;
  if (*slot < kShortSlots) {
    Put(Op::kBinGet);
    AppendLittle(static_cast<uint8_t>(*slot), &out_);
  } else {
    Put(Op::kLongBinGet);
    AppendLittle(*slot, &out_);
  }
  return true;
}

void Writer::Int(int64_t value) {
  if (value >= 0 && value <= 0xff) {
    Put(Op::kBinInt1);
    AppendLittle(static_cast<uint8_t>(value), &out_);
  } else if (value >= 0 && value <= 0xffff) {
    Put(Op::kBinInt2);
    AppendLittle(static_cast<uint16_t>(value), &out_);
  } else if (std::in_range<int32_t>(value)) {
    Put(Op::kBinInt);
    AppendLittle(static_cast<int32_t>(value), &out_);
  } else {
    // The fewest bytes whose top bit is the sign.
    int bytes = 8;
    while (value >> (8 * bytes - 9) == (value < 0 ? -1 : 0)) --bytes;
    Put(Op::kLong1);
    AppendLittle(static_cast<uint8_t>(bytes), &out_);
    out_.append(reinterpret_cast<const char*>(&value), static_cast<size_t>(bytes));
  }
}

void Writer::Float(double value) {
  Put(Op::kBinFloat);
  AppendLittle(std::byteswap(std::bit_cast<uint64_t>(value)), &out_);
}

void Writer::Text(std::string_view text) {
  Put(Op::kBinUnicode);
  AppendLittle(static_cast<uint32_t>(text.size()), &out_);
  out_ += text;
}

void Writer::IntTuple(std::span<const int64_t> values) {
  constexpr Op kSmall[] = {Op::kEmptyTuple, Op::kTuple1, Op::kTuple2, Op::kTuple3};
  const bool small = values.size() < std::size(kSmall);
  if (!small) Put(Op::kMark);
  for (const int64_t value : values) Int(value);
  Put(small ? kSmall[values.size()] : Op::kTuple);
}

void Writer::Text(std::string_view text, Slot* slot) {
  if (Fetch(*slot)) return;
  Text(text);
  *slot = Memoize();
}

void Writer::Global(std::string_view module, std::string_view name, Slot* slot) {
  if (Fetch(*slot)) return;
  Put(Op::kGlobal);
  fmt::format_to(std::back_inserter(out_), "{}\n{}\n", module, name);
  *slot = Memoize();
}

std::string Writer::Take() && {
  Put(Op::kStop);
  return std::move(out_);
}

}  // namespace reshard::pickle
