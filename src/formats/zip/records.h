#ifndef RESHARD_FORMATS_ZIP_RECORDS_H_
#define RESHARD_FORMATS_ZIP_RECORDS_H_

#include <cstdint>

/// Sizes, signatures and marks of the records of a zip file. All numbers in a zip are
/// little-endian. Source: PKWARE APPNOTE.TXT 6.3, sections 4.3 and 4.5.3.
namespace reshard::zip {

inline constexpr uint32_t kLocalHeaderSignature = 0x04034b50;  ///< "PK\3\4"
inline constexpr uint32_t kDescriptorSignature = 0x08074b50;
inline constexpr uint32_t kCentralHeaderSignature = 0x02014b50;
inline constexpr uint32_t kEndSignature = 0x06054b50;
inline constexpr uint32_t kEnd64Signature = 0x06064b50;
inline constexpr uint32_t kLocator64Signature = 0x07064b50;

inline constexpr uint64_t kLocalHeaderSize = 30;    ///< then the name and the extra field
inline constexpr uint64_t kCentralHeaderSize = 46;  ///< then name, extra field and comment
inline constexpr uint64_t kEndSize = 22;
inline constexpr uint64_t kEnd64Size = 56;
inline constexpr uint64_t kLocator64Size = 20;

inline constexpr uint16_t kStored = 0;  ///< compression method: none
inline constexpr uint16_t kFlagEncrypted = 1u << 0;
inline constexpr uint16_t kFlagDescriptor = 1u << 3;
inline constexpr uint16_t kFlagUtf8 = 1u << 11;
inline constexpr uint16_t kExtraZip64 = 1;  ///< id of the extra field with 64-bit numbers

/// A field of all ones says that its value is in the zip64 record or extra field.
inline constexpr uint16_t kSaturated16 = 0xffff;
inline constexpr uint32_t kSaturated32 = 0xffffffff;

}  // namespace reshard::zip

#endif  // RESHARD_FORMATS_ZIP_RECORDS_H_
