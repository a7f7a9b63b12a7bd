#include "formats/dcp/dcp_metadata.h"

#include <algorithm>
#include <utility>

#include "base/try.h"
#include "formats/dcp/metadata_builder.h"
#include "formats/dcp/metadata_folder.h"

namespace reshard::dcp {

BoxView Metadata::Box(const TensorRecord& tensor, const Chunk& chunk) const {
  const size_t rank = tensor.shape.size();
  const std::span<const int64_t> both = std::span(boxes).subspan(chunk.box, 2 * rank);
  return {both.first(rank), both.last(rank)};
}

std::span<const std::string> Metadata::TransformsOf(uint32_t file, uint64_t offset) const {
  const auto position = [](const TransformedEntry& e) { return std::pair(e.file, e.offset); };
  const auto found =
      std::ranges::lower_bound(transformed_entries, std::pair(file, offset), {}, position);
  if (found == transformed_entries.end() || position(*found) != std::pair(file, offset)) return {};
  return transforms[found->transforms];
}

Result<Metadata> DecodeMetadata(const ByteSource& source, const pickle::Limits& limits) {
  MetadataFolder folder(limits.max_memory, source.size());
  RESHARD_ASSIGN(const pickle::Document document, pickle::Decode(source, 0, limits, &folder));
  return MetadataBuilder(source.name(), &folder).Build(document.root());
}

}  // namespace reshard::dcp
