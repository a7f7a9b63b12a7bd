// gather_bench DIRECTORY: how fast a tensor is made from a file in the page cache, as it lies and
// transposed, on one thread, per output byte; and how many reads that takes. Needs 400 MB in
// DIRECTORY.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <filesystem>

#include "engine/file_job.h"
#include "io/file.h"
#include "view/catalog_builder.h"
#include "view/lower.h"

namespace reshard {
namespace {

// One tensor in one file.
class FileSource final : public Source {
 public:
  FileSource(const std::filesystem::path& path, const Shape& shape) {
    const uint64_t size = View::Source(0, DType::kBFloat16, shape).byte_size();
    {
      auto file = *OutputFile::Create(path);
      const std::vector<std::byte> row(1 << 20, std::byte{0x3c});
      for (uint64_t at = 0; at < size; at += row.size())
        (void)file->WriteAt(at, std::span(row).first(std::min<uint64_t>(row.size(), size - at)));
      (void)file->SyncAndClose();
    }
    CatalogBuilder builder;
    builder.AddFile({.path = path.string(), .size = size});
    builder.AddTensor("t", DType::kBFloat16, shape);
    builder.AddWhole(0, 0, size);
    catalog_ = *std::move(builder).Build(root_);
    file_ = *InputFile::Open(path);
  }

  const Catalog& catalog() const override { return catalog_; }
  std::string_view kind() const override { return "file"; }
  std::string_view evidence() const override { return "a benchmark"; }
  const std::string& root() const override { return root_; }
  const std::vector<std::string>& notes() const override { return notes_; }
  Result<ChunkLayout> Locate(const Tensor& tensor, const Chunk&) const override {
    return ChunkLayout{.strides = RowMajorStrides(tensor.shape)};
  }
  Result<> ReadAt(uint32_t, uint64_t offset, std::span<std::byte> out) const override {
    ++reads;
    bytes += out.size();
    return file_->ReadAt(offset, out);
  }

  mutable uint64_t reads = 0;
  mutable uint64_t bytes = 0;

 private:
  Catalog catalog_;
  std::string root_;
  std::vector<std::string> notes_;
  std::unique_ptr<InputFile> file_;
};

void Measure(std::string_view what, const FileSource& source, const View& view,
             const std::filesystem::path& directory, size_t widest = kWindowBytes) {
  Plan plan;
  plan.files.push_back(
      {.path = "out", .size = view.byte_size(), .slots = {{.name = "t", .view = view}}});
  std::atomic<uint64_t> done = 0;
  const std::atomic<bool> never = false;
  const auto layouts = ChunkLayouts::Locate(ChunksOf(plan, source.catalog()), source, 1, &never);
  const ChunkIndex index(source.catalog());
  WindowFiller filler(source, index, *layouts, widest);
  BlockHash hash;
  const OverflowFn ignored = [](const Slot&, size_t) {};
  const auto output = OutputDirectory::Open(directory);
  if (!output) return;
  FileJob job(plan.files[0], *output);
  source.reads = source.bytes = 0;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t block = 0; block < job.block_count(); ++block)
    (void)job.WriteBlock(block, {filler, hash, ignored, done, never});
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto megabytes = static_cast<double>(done) / 1e6;
  fmt::print("{:34} {:6.0f} MB/s, {:8.0f} reads a MB, {:5.1f} bytes read for one\n", what,
             megabytes / seconds, static_cast<double>(source.reads) / megabytes,
             static_cast<double>(source.bytes) / static_cast<double>(done));
}

int Main(const std::filesystem::path& directory) {
  for (const Shape& shape : {Shape{16, 2048, 1536}, Shape{1, 4096, 22016}, Shape{1, 22016, 4096}}) {
    const FileSource source(directory / "in", shape);
    const View whole = View::Source(0, DType::kBFloat16, shape);
    const View turned = *View::Permute(whole, {0, 2, 1});
    const std::string name = fmt::format("[{}]", fmt::join(shape, ", "));
    Measure(name, source, whole, directory);
    Measure(name + " transposed", source, turned, directory);
    Measure(name + " in wide windows", source, turned, directory, kBlockBytes);
    Measure(name + " and cast", source, *View::Cast(turned, DType::kFloat32), directory,
            kBlockBytes);
  }
  for (const char* file : {"in", "out.partial"}) std::filesystem::remove(directory / file);
  return 0;
}

}  // namespace
}  // namespace reshard

int main(int argc, char** argv) {
  if (argc == 2) return reshard::Main(argv[1]);
  fmt::print(stderr, "usage: gather_bench DIRECTORY\n");
  return 2;
}
