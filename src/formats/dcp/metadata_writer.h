#ifndef RESHARD_FORMATS_DCP_METADATA_WRITER_H_
#define RESHARD_FORMATS_DCP_METADATA_WRITER_H_

#include <string>

#include "formats/dcp/dcp_metadata.h"

namespace reshard::dcp {

/// The `.metadata` file of a checkpoint, which torch 2.1 and later read: a pickle of protocol 2.
/// Time and memory are linear in the chunks; a chunk takes some 110 bytes.
///
/// `metadata` is what DecodeMetadata would give, but that chunks may be empty; transforms and notes
/// are not written. The names are distinct, and every path, joined by ".", is its name; an empty
/// path stands for the name alone.
std::string EncodeMetadata(const Metadata& metadata);

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_METADATA_WRITER_H_
