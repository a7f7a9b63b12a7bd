#ifndef RESHARD_API_CARRIED_STATE_H_
#define RESHARD_API_CARRIED_STATE_H_

#include <vector>

#include "api/flavors.h"
#include "checkpoints/dcp/dcp_sink.h"
#include "reshard/request.h"
#include "reshard/source.h"

namespace reshard {

/// What a DCP target holds of its source besides the tensors, where all names stay as they are: the
/// objects, and the way to each value in the state dict that was saved.
struct CarriedState {
  std::vector<DcpObject> objects;
  std::vector<dcp::Path> paths;  ///< of the tensors, or none
};

/// Nothing where names change or a part of the model is wanted. Objects that --ignore names are
/// left out, and those whose bytes the source does not keep: an error (kMapping) that names them
/// where identity was asked for.
Result<CarriedState> CarryState(const ConvertRequest& request, const Flavors& flavors,
                                const Source& source, const std::vector<NamedView>& tensors);

}  // namespace reshard

#endif  // RESHARD_API_CARRIED_STATE_H_
