#ifndef RESHARD_LAYOUT_H_
#define RESHARD_LAYOUT_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "reshard/error.h"

namespace reshard {

/// Layers of each chunk of one part of a model: rows are virtual pipeline chunks, columns stages.
using LayerRows = std::vector<std::vector<int64_t>>;

/// How a model is dealt out to ranks, as far as it was said: 0, or a part that is not there, is
/// what the model itself decides. Parts of a model are "llm", "vit", "audio".
struct LayoutRequest {
  int64_t tp = 0;
  int64_t pp = 0;
  int64_t vpp = 0;
  int64_t ep = 0;
  int64_t etp = 0;                               ///< of the experts; 0: tp
  std::map<std::string, int64_t> part_tp{};      ///< where a part has its own; 0: tp
  std::map<std::string, LayerRows> part_layers{};

  bool operator==(const LayoutRequest&) const = default;
};

/// Reads "[[4, 4], [4, 2]]" or "[4, 4]" (one row). Rows must be of one length. Errors are of kind
/// kUsage.
Result<LayerRows> ParseLayerRows(std::string_view text);

/// Reads "tp=2,pp=4,vit-tp=1,llm-pp-layers=[[4,4]]" into a request. Errors are of kind kUsage.
Result<> ParseLayoutText(std::string_view text, LayoutRequest* request);

/// Reads the same names from a TOML file. Errors are of kind kUsage and name the line.
Result<> ReadLayoutFile(const std::string& path, LayoutRequest* request);

/// The request in the form that ParseLayoutText reads; empty where nothing was said.
std::string LayoutText(const LayoutRequest& request);

}  // namespace reshard

#endif  // RESHARD_LAYOUT_H_
