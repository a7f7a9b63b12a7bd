#include "checkpoints/hf/hf_index.h"

#include "base/json_writer.h"

namespace reshard {

std::string WriteWeightMap(uint64_t total_size,
                           const std::map<std::string, std::string>& weight_map) {
  JsonWriter json({.indent = 2, .ascii = true});
  json.BeginObject();
  json.Key("metadata");
  json.BeginObject();
  json.Member("total_size", total_size);
  json.EndObject();
  json.Key("weight_map");
  json.BeginObject();
  for (const auto& [tensor, file] : weight_map) json.Member(tensor, file);
  json.EndObject();
  json.EndObject();
  return json.Take() + "\n";
}

}  // namespace reshard
