#include "formats/pickle/scan.h"

#include <fmt/format.h>

#include <cstring>

#include "base/endian.h"
#include "base/try.h"
#include "formats/pickle/opcodes.h"

namespace reshard::pickle {
namespace {

// Skips the operand of the opcode at `p`, whose length is no constant.
Result<const uint8_t*> SkipVariable(Window& window, const uint8_t* p) {
  switch (static_cast<Op>(*p)) {
    case Op::kShortBinString:
    case Op::kLong1:
    case Op::kShortBinBytes:
    case Op::kShortBinUnicode:
      return p + 2 + p[1];
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
        RESHARD_ASSIGN(p, window.LoadLine(p));
        if (p >= window.end()) return p;
        const void* newline = std::memchr(p, '\n', static_cast<size_t>(window.end() - p));
        if (newline == nullptr) return std::unexpected(UnknownOpcodeError(window, p));
        p = static_cast<const uint8_t*>(newline) + 1;
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
      .offset = window.OffsetOf(p),
      .found = fmt::format("byte 0x{:02x} where an opcode of a pickle should be", *p),
      .expected = "an opcode that a pickler writes for protocols 2 to 5",
      .help = "the file is damaged, or no pickle; see whether its origin can still read it"};
}

Error BadSlotError(const Window& window, const uint8_t* p, uint64_t slot) {
  return Error{.kind = ErrorKind::kSource,
               .file = window.source().name(),
               .offset = window.OffsetOf(p),
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
    switch (static_cast<Op>(*p)) {
      case Op::kMark:
      case Op::kPop:
      case Op::kPopMark:
      case Op::kDup:
      case Op::kNone:
      case Op::kBinPersId:
      case Op::kReduce:
      case Op::kAppend:
      case Op::kBuild:
      case Op::kEmptyDict:
      case Op::kAppends:
      case Op::kEmptyList:
      case Op::kSetItem:
      case Op::kTuple:
      case Op::kEmptyTuple:
      case Op::kSetItems:
      case Op::kNewObj:
      case Op::kTuple1:
      case Op::kTuple2:
      case Op::kTuple3:
      case Op::kNewTrue:
      case Op::kNewFalse:
      case Op::kEmptySet:
      case Op::kAddItems:
      case Op::kFrozenSet:
      case Op::kNewObjEx:
      case Op::kStackGlobal:
      case Op::kMemoize:
        p += 1;
        break;
      case Op::kBinInt1:
      case Op::kBinGet:
      case Op::kBinPut:
      case Op::kProto:
        p += 2;
        break;
      case Op::kBinInt2:
        p += 3;
        break;
      case Op::kBinInt:
      case Op::kLongBinPut:
        p += 5;
        break;
      case Op::kLongBinGet: {
        const auto slot = LoadLittle<uint32_t>(p + 1);
        // Each slot was set by an opcode of at least one byte, which bounds the set.
        if (slot >= window.OffsetOf(p) - offset)
          return std::unexpected(BadSlotError(window, p, slot));
        if (slot >= kLowSlots) slots.Add(slot);
        p += 5;
        break;
      }
      case Op::kBinFloat:
      case Op::kFrame:
        p += 9;
        break;
      case Op::kStop:
        return slots;
      default: {
        RESHARD_ASSIGN(p, SkipVariable(window, p));
      }
    }
  }
}

}  // namespace reshard::pickle
