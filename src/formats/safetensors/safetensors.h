#ifndef RESHARD_FORMATS_SAFETENSORS_SAFETENSORS_H_
#define RESHARD_FORMATS_SAFETENSORS_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/byte_source.h"
#include "base/file_layout.h"
#include "reshard/catalog.h"
#include "reshard/dtype.h"
#include "reshard/error.h"

/// The safetensors format: u64 little-endian N, N bytes of JSON, then the tensors' bytes without
/// gaps. Rules are those of the reference library, safetensors 0.8 (safetensors/src/tensor.rs).
namespace reshard::safetensors {

/// The longest JSON text that the reference library reads.
inline constexpr uint64_t kMaxJsonBytes = 100'000'000;

/// `__metadata__`: free text for whoever reads the file ("format": "pt", DCP_SHARDING_INFO, ...).
using Metadata = std::map<std::string, std::string>;

/// A tensor in a file. Its elements are row-major and little-endian.
struct TensorInfo {
  std::string name{};
  DType dtype = DType::kFloat32;
  Shape shape{};        ///< in elements of `dtype`: the file counts packed values (F4, F6_*) singly
  uint64_t begin = 0;   ///< its first byte in the ByteSource
  uint64_t length = 0;  ///< in bytes
};

struct Header {
  std::vector<TensorInfo> tensors;  ///< by position in the file
  Metadata metadata;                ///< empty where the file has none
  uint64_t header_bytes = 0;        ///< from the start to the first byte of data: 8 + N
};

/// Reads and checks the header of the safetensors data that starts at `offset` and runs to the end
/// of `file`. Whatever the reference library refuses is refused; of what it accepts, these are
/// refused too: a name that stands twice, a record written as a JSON array, numbers beyond 64 bits,
/// dimensions whose non-zero product exceeds int64, and packed types whose last dimension ends
/// within a storage unit. Errors are of kind kSource; no byte of tensor data is read.
Result<Header> DecodeHeader(const ByteSource& file, uint64_t offset = 0);

/// True where a file can hold tensors of this type.
bool CanHold(DType dtype);

/// Lays out one file as the reference library does: widest types first, then by name; `metadata`
/// before the tensors, sorted by key (the library's own order of keys is random); JSON padded with
/// spaces to 8 bytes. The header is the layout's only literal; its slots follow without gaps. What
/// the format cannot express (a type without CanHold, a name that stands twice, is `__metadata__`
/// or is no UTF-8, more than kMaxJsonBytes of JSON) is an error of kind kMapping that names the
/// tensor.
Result<FileLayout> EncodeHeader(std::span<const TensorDecl> tensors, const Metadata& metadata);

}  // namespace reshard::safetensors

#endif  // RESHARD_FORMATS_SAFETENSORS_SAFETENSORS_H_
