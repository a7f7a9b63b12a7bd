#ifndef RESHARD_FORMATS_DCP_DCP_TEST_SUPPORT_H_
#define RESHARD_FORMATS_DCP_DCP_TEST_SUPPORT_H_

#include <map>
#include <string>
#include <string_view>

#include "formats/dcp/dcp_metadata.h"

/// What the tests of this folder share.
namespace reshard::dcp {

/// The `.metadata` of tests/data/fixtures/NAME.
std::string Fixture(std::string_view name);

Result<Metadata> DecodeText(const std::string& bytes);

/// Decodes tests/data/dcp/NAME.metadata.
Result<Metadata> DecodeFile(std::string_view name);

/// The notation of tests/data/dcp/make.py, by tensor and object name.
std::map<std::string, std::string> Listing(const Metadata& metadata);

/// What torch reads: tests/data/dcp/NAME.txt.
std::map<std::string, std::string> ExpectedListing(std::string_view name);

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_DCP_TEST_SUPPORT_H_
