#ifndef RESHARD_FORMATS_PICKLE_SCAN_H_
#define RESHARD_FORMATS_PICKLE_SCAN_H_

#include <cstdint>

#include "formats/pickle/slot_set.h"
#include "formats/pickle/window.h"
#include "reshard/error.h"

namespace reshard::pickle {

/// Memo slots below this are kept whether they are read or not: BINGET can name them, and there is
/// nothing to gain from knowing.
inline constexpr uint32_t kLowSlots = 256;

/// The first pass: runs over the opcodes from `offset` to STOP without making any value, and
/// returns the memo slots from kLowSlots on that are ever read. Errors (kSource): an opcode that
/// has no place here, a memo slot that so short a pickle cannot have, no STOP.
Result<SlotSet> FindReadSlots(Window& window, uint64_t offset);

/// The error for the opcode at `p`.
Error UnknownOpcodeError(const Window& window, const uint8_t* p);

/// The error for a memo slot that the opcode at `p` names and that cannot be there.
Error BadSlotError(const Window& window, const uint8_t* p, uint64_t slot);

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_SCAN_H_
