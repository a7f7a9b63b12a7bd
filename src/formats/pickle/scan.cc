#include "formats/pickle/scan.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <initializer_list>

#include "base/endian.h"
#include "base/try.h"
#include "formats/pickle/opcodes.h"

namespace reshard::pickle {
namespace {

// The length of each opcode with its operand, where that is a constant.
enum Length : uint8_t { kVariable = 0, kGet = 250, kShort, kStop };

constexpr std::array<uint8_t, 256> MakeLengths() {
  std::array<uint8_t, 256> out = {};
  const auto set = [&](uint8_t length, std::initializer_list<Op> ops) {
    for (Op op : ops) out[static_cast<uint8_t>(op)] = length;
  };
  set(1, {Op::kMark,      Op::kPop,      Op::kPopMark,    Op::kDup,       Op::kNone,
          Op::kBinPersId, Op::kReduce,   Op::kAppend,     Op::kBuild,     Op::kEmptyDict,
          Op::kAppends,   Op::kSetItem,  Op::kTuple,      Op::kEmptyList, Op::kEmptyTuple,
          Op::kSetItems,  Op::kNewObj,   Op::kTuple1,     Op::kTuple2,    Op::kTuple3,
          Op::kNewTrue,   Op::kNewFalse, Op::kEmptySet,   Op::kAddItems,  Op::kFrozenSet,
          Op::kNewObjEx,  Op::kMemoize,  Op::kStackGlobal});
  set(2, {Op::kBinInt1, Op::kBinGet, Op::kBinPut, Op::kProto});
  set(3, {Op::kBinInt2});
  set(5, {Op::kBinInt, Op::kLongBinPut});
  set(9, {Op::kBinFloat, Op::kFrame});
  set(kGet, {Op::kLongBinGet});
  set(kShort, {Op::kShortBinUnicode, Op::kShortBinBytes, Op::kShortBinString, Op::kLong1});
  set(kStop, {Op::kStop});
  return out;
}

constexpr std::array<uint8_t, 256> kLengths = MakeLengths();

// Skips the operand of the opcode at `p`, whose length is no constant.
Result<const uint8_t*> SkipVariable(Window& window, const uint8_t* p) {
  switch (static_cast<Op>(*p)) {
    case Op::kBinString:
    case Op::kLong4:  // a negative length is a huge one here, and fails as such
    case Op::kBinUnicode:
    case Op::kBinBytes:
      return window.Skip(p + 5, LoadLittle<uint32_t>(p + 1));
    case Op::kBinUnicode8:
    case Op::kBinBytes8:
    case Op::kByteArray8:
      return window.Skip(p + 9, LoadLittle<uint64_t>(p + 1));
    case Op::kGlobal: {
      ++p;
      for (int line = 0; line < 2; ++line) {
        RESHARD_ASSIGN(const std::string_view text, window.Line(p));
        p = reinterpret_cast<const uint8_t*>(text.end()) + 1;
      }
      return p;
    }
    default:
      return std::unexpected(UnknownOpcodeError(window, p));
  }
}

}  // namespace

Error UnknownOpcodeError(const Window& window, const uint8_t* p) {
  return Error{
      .kind = ErrorKind::kSource,
      .file = window.source().name(),
      .offset = window.FileOffsetOf(p),
      .found = fmt::format("byte 0x{:02x} where an opcode of a pickle should be", *p),
      .expected = "an opcode that a pickler writes for protocols 2 to 5",
      .help = "the file is damaged, or no pickle; see whether its origin can still read it"};
}

Error BadSlotError(const Window& window, const uint8_t* p, uint64_t slot) {
  return Error{.kind = ErrorKind::kSource,
               .file = window.source().name(),
               .offset = window.FileOffsetOf(p),
               .found = fmt::format("a use of memo slot {}, which is not set", slot),
               .expected = "a slot that an earlier opcode has set",
               .help = "the file is damaged: copy it again from where it was written"};
}

Result<SlotSet> FindReadSlots(Window& window, uint64_t offset) {
  SlotSet slots;
  RESHARD_ASSIGN(const uint8_t* p, window.Seek(offset));
  for (;;) {
    if (p >= window.safe_end()) {
      RESHARD_ASSIGN(p, window.Refill(p));
    }
    // A branch for each length, which the processor predicts, where an addition of the length would
    // have to wait for two loads.
    const uint8_t length = kLengths[*p];
    if (length == 1) {
      p += 1;
      continue;
    }
    if (length == 2) {
      p += 2;
      continue;
    }
    switch (length) {
      case 3:
        p += 3;
        break;
      case 5:
        p += 5;
        break;
      case 9:
        p += 9;
        break;
      case kGet: {
        const auto slot = LoadLittle<uint32_t>(p + 1);
        // Each slot was set by an opcode of at least one byte, which bounds the set.
        if (slot >= window.OffsetOf(p) - offset)
          return std::unexpected(BadSlotError(window, p, slot));
        if (slot >= kLowSlots) slots.Add(slot);
        p += 5;
        break;
      }
      case kShort:
        p += 2 + p[1];
        break;
      case kStop:
        return slots;
      default: {
        RESHARD_ASSIGN(p, SkipVariable(window, p));
      }
    }
  }
}

}  // namespace reshard::pickle
