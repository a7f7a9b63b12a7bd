#include "checkpoints/pt/pt_source.h"

#include "base/try.h"
#include "checkpoints/file_source.h"
#include "checkpoints/torch_save_tensors.h"
#include "io/directory.h"

namespace reshard {
namespace {

class PtSource final : public FileSource {
 public:
  explicit PtSource(const std::filesystem::path& directory)
      : FileSource("pt", "a file of torch.save", directory) {}

  Result<> Open(const std::string& name) {
    CatalogBuilder builder;
    RESHARD_ASSIGN(const uint32_t index, AddFile(name, &builder));
    RESHARD_ASSIGN(const auto file, files_.Open(index));
    RESHARD_ASSIGN(const torch_save::Archive archive, torch_save::DecodeFile(*file));
    tensors_.Add(archive, index, &builder);
    RESHARD_ASSIGN(catalog_, std::move(builder).Build(file->name()));
    return {};
  }

  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk&) const override {
    return *tensors_.Find(tensor.name);
  }

 private:
  TorchSaveTensors tensors_;
};

}  // namespace

Result<std::unique_ptr<Source>> OpenPtSource(const std::filesystem::path& file) {
  RESHARD_ASSIGN(const std::filesystem::path whole, AbsolutePath(file));
  auto source = std::make_unique<PtSource>(whole.parent_path());
  RESHARD_TRY(source->Open(whole.filename().string()));
  return source;
}

}  // namespace reshard
