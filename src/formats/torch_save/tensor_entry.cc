#include "formats/torch_save/tensor_entry.h"

#include <utility>

#include "base/try.h"
#include "formats/torch_save/edge_cache.h"
#include "formats/torch_save/tensor.h"
#include "formats/torch_save/zip_records.h"

namespace reshard::torch_save {

Result<TensorEntry> DecodeTensorEntry(const ByteSource& entry) {
  EdgeCache edges(entry);
  RESHARD_TRY(edges.Fill());
  RESHARD_ASSIGN(const ZipRecords records, ZipRecords::Open(edges));
  RESHARD_ASSIGN(TensorCall tensor, ParseTensor(records.root(), entry.name()));
  return records.Place(std::move(tensor));
}

}  // namespace reshard::torch_save
