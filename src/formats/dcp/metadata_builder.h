#ifndef RESHARD_FORMATS_DCP_METADATA_BUILDER_H_
#define RESHARD_FORMATS_DCP_METADATA_BUILDER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/dcp/chunk_join.h"
#include "formats/dcp/dcp_metadata.h"
#include "formats/dcp/metadata_folder.h"
#include "formats/pickle/pickle.h"

namespace reshard::dcp {

/// Makes a Metadata of what a MetadataFolder took from a pickle and of what remains of the pickle.
class MetadataBuilder {
 public:
  /// `file`: the name for errors. The folder is used up.
  MetadataBuilder(std::string file, MetadataFolder* folder)
      : file_(std::move(file)), folder_(*folder) {}

  Result<Metadata> Build(const pickle::Value& root);

 private:
  // What a name in state_dict_metadata stands for.
  struct Record {
    bool is_tensor = false;
    uint32_t index = 0;  // into tensors or objects
  };

  Result<> AddRecords(const pickle::Value& state);
  Result<> AddTensor(std::string_view name, const pickle::Value& value);
  void AddPaths(const pickle::Value& planner_data);
  Result<> CheckFiles() const;
  Result<> Join();
  Result<> JoinChunk(const MetadataFolder::Index& index, uint32_t tensor, ChunkJoin* join);
  Result<> FillChunks();
  Result<> FillObjects();
  Result<> SortTransforms();

  Error Bad(std::string_view tensor, std::string found, std::string expected) const;
  void NoteTransforms(const MetadataFolder::Storage& storage);

  const std::string file_;
  MetadataFolder& folder_;
  Metadata out_;
  NameTable names_;                          // of the records
  std::vector<Record> records_;              // by number of the name
  std::vector<bool> used_;                   // by the folder's tensor
  std::vector<ChunkJoin::Range> ranges_;     // by tensor
  std::vector<uint32_t> storage_of_chunk_;   // by chunk
  std::vector<uint32_t> storage_of_object_;  // by object
};

}  // namespace reshard::dcp

#endif  // RESHARD_FORMATS_DCP_METADATA_BUILDER_H_
