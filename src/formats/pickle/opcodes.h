#ifndef RESHARD_FORMATS_PICKLE_OPCODES_H_
#define RESHARD_FORMATS_PICKLE_OPCODES_H_

#include <cstdint>

namespace reshard::pickle {

/// The opcodes that a pickler writes for protocols 2 to 5 (CPython Lib/pickle.py), with the two
/// string opcodes of Python 2. `n` is a little-endian length that n bytes follow.
enum class Op : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinFloat = 'G',  // f64, big-endian
  kBinInt = 'J',    // i32
  kBinInt1 = 'K',   // u8
  kBinInt2 = 'M',   // u16
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',       // n: i32; Python 2 str
  kShortBinString = 'U',  // n: u8; Python 2 str
  kBinUnicode = 'X',      // n: u32
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',  // two lines
  kEmptyDict = '}',
  kAppends = 'e',
  kBinGet = 'h',      // u8
  kLongBinGet = 'j',  // u32
  kEmptyList = ']',
  kBinPut = 'q',      // u8
  kLongBinPut = 'r',  // u32
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  // Protocol 2.
  kProto = 0x80,  // u8
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,  // n: u8
  kLong4 = 0x8b,  // n: i32
  // Protocol 3.
  kBinBytes = 'B',       // n: u32
  kShortBinBytes = 'C',  // n: u8
  // Protocol 4.
  kShortBinUnicode = 0x8c,  // n: u8
  kBinUnicode8 = 0x8d,      // n: u64
  kBinBytes8 = 0x8e,        // n: u64
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,  // u64, a length that a reader may ignore
  // Protocol 5.
  kByteArray8 = 0x96,  // n: u64
};

inline constexpr int kMaxProtocol = 5;

}  // namespace reshard::pickle

#endif  // RESHARD_FORMATS_PICKLE_OPCODES_H_
