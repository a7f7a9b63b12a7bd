#include "formats/dcp/metadata_writer.h"

#include <array>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/pickle/writer.h"

namespace reshard::dcp {
namespace {

using pickle::Op;
using Slot = pickle::Writer::Slot;

constexpr std::string_view kMetadata = "torch.distributed.checkpoint.metadata";
constexpr std::string_view kFileSystem = "torch.distributed.checkpoint.filesystem";
// Until 2.2 the properties of a tensor live here only, and later versions read them from here too.
constexpr std::string_view kShardedTensor = "torch.distributed._shard.sharded_tensor.metadata";

struct Constant {
  std::string_view module;  // empty: a text
  std::string_view name;
  Slot slot{};
};

class MetadataWriter {
 public:
  explicit MetadataWriter(const Metadata& metadata)
      : metadata_(metadata),
        tensor_names_(metadata.tensors.size()),
        object_names_(metadata.objects.size()),
        files_(metadata.files.size()) {}

  std::string Run() && {
    Begin(&metadata_class_);
    Put(&state_dict_metadata_);
    WriteStateDict();
    Put(&planner_data_);
    WritePaths();
    Put(&storage_data_);
    WriteStorage();
    End();
    return std::move(out_).Take();
  }

 private:
  void Put(Constant* constant) {
    if (constant->module.empty())
      out_.Text(constant->name, &constant->slot);
    else
      out_.Global(constant->module, constant->name, &constant->slot);
  }

  // An object as CPython pickles it: made without arguments, then given its fields. Between the two
  // calls come the fields, names and values.
  void Begin(Constant* type) {
    PutNew(type);
    out_.Put(Op::kEmptyDict);
    out_.Put(Op::kMark);
  }
  void End() {
    out_.Put(Op::kSetItems);
    out_.Put(Op::kBuild);
  }
  void PutNew(Constant* type) {
    Put(type);
    out_.Put(Op::kEmptyTuple);
    out_.Put(Op::kNewObj);
  }

  void PutSize(std::span<const int64_t> size) {
    Put(&size_class_);
    out_.IntTuple(size);
    out_.Put(Op::kTuple1);
    out_.Put(Op::kReduce);
  }

  // What a function of torch makes of one argument, the same every time.
  template <typename WriteArgument>
  void PutCall(Constant* function, Slot* result, WriteArgument write_argument) {
    if (out_.Fetch(*result)) return;
    Put(function);
    write_argument();
    out_.Put(Op::kTuple1);
    out_.Put(Op::kReduce);
    *result = out_.Memoize();
  }

  void WriteStateDict() {
    const size_t tensors = metadata_.tensors.size();
    out_.Put(Op::kEmptyDict);
    out_.SetItems(tensors + metadata_.objects.size(), [&](size_t i) {
      if (i < tensors) {
        out_.Text(metadata_.tensors[i].name, &tensor_names_[i]);
        WriteTensor(metadata_.tensors[i]);
      } else {
        out_.Text(metadata_.objects[i - tensors].name, &object_names_[i - tensors]);
        PutNew(&bytes_class_);
      }
    });
  }

  void WriteTensor(const TensorRecord& tensor) {
    Begin(&tensor_class_);
    Put(&properties_);
    WriteProperties(tensor);
    Put(&tensor_size_);
    PutSize(tensor.shape);
    Put(&chunks_);
    out_.Put(Op::kEmptyList);
    out_.AppendItems(tensor.chunk_count, [&](size_t i) {
      const BoxView box = metadata_.Box(tensor, metadata_.chunks[tensor.first_chunk + i]);
      Begin(&chunk_class_);
      Put(&offsets_);
      PutSize(box.start);
      Put(&sizes_);
      PutSize(box.extent);
      End();
    });
    End();
  }

  void WriteProperties(const TensorRecord& tensor) {
    PutNew(&properties_class_);
    out_.Put(Op::kMark);
    out_.Global("torch", DTypeName(tensor.dtype), &dtypes_[static_cast<size_t>(tensor.dtype)]);
    PutCall(&get_layout_, &strided_, [&] { out_.Text("torch.strided"); });
    out_.Bool(tensor.requires_grad);
    PutCall(&memory_format_, &contiguous_, [&] { out_.Int(0); });
    out_.Bool(false);  // not in pinned memory
    out_.Put(Op::kTuple);
    out_.Put(Op::kBuild);
  }

  void WritePaths() {
    const size_t tensors = metadata_.tensors.size();
    out_.Put(Op::kEmptyDict);
    out_.SetItems(tensors + metadata_.objects.size(), [&](size_t i) {
      if (i < tensors)
        WritePath(&tensor_names_[i], metadata_.tensors[i].path);
      else
        WritePath(&object_names_[i - tensors], metadata_.objects[i - tensors].path);
    });
  }

  void WritePath(const Slot* name, const Path& path) {
    out_.Fetch(*name);
    if (path.empty()) {
      out_.Fetch(*name);
      out_.Put(Op::kTuple1);
      return;
    }
    out_.Put(Op::kMark);
    for (const PathKey& key : path) {
      if (const auto* index = std::get_if<int64_t>(&key))
        out_.Int(*index);
      else
        out_.Text(std::get<std::string>(key));
    }
    out_.Put(Op::kTuple);
  }

  void WriteStorage() {
    size_t chunks = 0;
    for (const TensorRecord& tensor : metadata_.tensors) chunks += tensor.chunk_count;
    size_t tensor = 0;
    uint32_t chunk = 0;  // of the tensor
    out_.Put(Op::kEmptyDict);
    out_.SetItems(chunks + metadata_.objects.size(), [&](size_t i) {
      if (i >= chunks) return WriteObjectEntry(i - chunks);
      for (; chunk == metadata_.tensors[tensor].chunk_count; chunk = 0) ++tensor;
      WriteChunkEntry(tensor, chunk++);
    });
  }

  void WriteChunkEntry(size_t index, uint32_t chunk) {
    const TensorRecord& tensor = metadata_.tensors[index];
    const Chunk& entry = metadata_.chunks[tensor.first_chunk + chunk];
    Begin(&index_class_);
    Put(&fqn_);
    out_.Fetch(tensor_names_[index]);
    Put(&index_);
    out_.Int(chunk);
    Put(&offset_);
    PutSize(metadata_.Box(tensor, entry).start);
    End();
    WriteStorageInfo(entry.file, entry.offset, entry.length);
  }

  void WriteObjectEntry(size_t index) {
    const ObjectRecord& object = metadata_.objects[index];
    Begin(&index_class_);
    Put(&fqn_);
    out_.Fetch(object_names_[index]);
    Put(&index_);
    out_.None();
    End();
    WriteStorageInfo(object.file, object.offset, object.length);
  }

  void WriteStorageInfo(uint32_t file, uint64_t offset, uint64_t length) {
    Begin(&storage_class_);
    Put(&relative_path_);
    out_.Text(metadata_.files[file], &files_[file]);
    Put(&offset_);
    out_.Int(static_cast<int64_t>(offset));
    Put(&length_);
    out_.Int(static_cast<int64_t>(length));
    End();
  }

  const Metadata& metadata_;
  pickle::Writer out_;
  std::vector<Slot> tensor_names_;
  std::vector<Slot> object_names_;
  std::vector<Slot> files_;

  Constant metadata_class_{kMetadata, "Metadata"};
  Constant state_dict_metadata_{{}, "state_dict_metadata"};
  Constant planner_data_{{}, "planner_data"};
  Constant storage_data_{{}, "storage_data"};

  Constant tensor_class_{kMetadata, "TensorStorageMetadata"};
  Constant bytes_class_{kMetadata, "BytesStorageMetadata"};
  Constant properties_{{}, "properties"};
  Constant tensor_size_{{}, "size"};
  Constant chunks_{{}, "chunks"};
  Constant size_class_{"torch", "Size"};

  Constant properties_class_{kShardedTensor, "TensorProperties"};
  std::array<Slot, kDTypeCount> dtypes_;
  Constant get_layout_{"torch.serialization", "_get_layout"};
  Slot strided_;
  Constant memory_format_{kShardedTensor, "MEM_FORMAT_ENCODING"};
  Slot contiguous_;

  Constant chunk_class_{kMetadata, "ChunkStorageMetadata"};
  Constant offsets_{{}, "offsets"};
  Constant sizes_{{}, "sizes"};

  Constant index_class_{kMetadata, "MetadataIndex"};
  Constant fqn_{{}, "fqn"};
  Constant index_{{}, "index"};
  Constant offset_{{}, "offset"};
  Constant storage_class_{kFileSystem, "_StorageInfo"};
  Constant relative_path_{{}, "relative_path"};
  Constant length_{{}, "length"};
};

}  // namespace

std::string EncodeMetadata(const Metadata& metadata) { return MetadataWriter(metadata).Run(); }

}  // namespace reshard::dcp
