#include "api/outputs.h"

#include <algorithm>
#include <filesystem>
#include <span>

#include <fmt/format.h>

#include "base/try.h"
#include "checkpoints/dcp/dcp_sink.h"
#include "checkpoints/hf/hf_index.h"
#include "checkpoints/hf/hf_sink.h"
#include "checkpoints/megatron/megatron_sink.h"
#include "plan/planner.h"
#include "reshard/convert.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

TensorDecl Declare(const std::string& name, const View& view) {
  return {name, view.dtype(), view.shape()};
}

// The tensors of each file of a directory like another one. Where that has files of the other
// format, the names are this one's.
Result<std::vector<std::pair<std::string, FileContent>>> DistributeLike(
    const std::vector<NamedView>& tensors, const ConvertRequest& request,
    const std::map<std::string, std::string>& like) {
  std::map<std::string, FileContent> files;
  const std::vector<FileContent> order = PackFiles(tensors, request.packing, UINT64_MAX);
  for (const FileContent& all : order)
    for (size_t index : all) {
      const auto file = like.find(tensors[index].name);
      if (file == like.end())
        return std::unexpected(
            Error{.kind = ErrorKind::kMapping,
                  .tensor = tensors[index].name,
                  .found = "the directory of --like does not have this tensor",
                  .expected = "the same tensors",
                  .help = fmt::format("drop it with --ignore, or leave out --like")});
      files[file->second].push_back(index);
    }
  std::vector<std::pair<std::string, FileContent>> named(files.begin(), files.end());
  const fs::path extension = fs::path(WeightFileName(request.weights, 0, 1)).extension();
  if (std::ranges::any_of(
          named, [&](const auto& file) { return fs::path(file.first).extension() != extension; }))
    for (size_t i = 0; i < named.size(); ++i)
      named[i].first = WeightFileName(request.weights, i, named.size());
  return named;
}

}  // namespace

Result<Likeness> ReadLikeness(const std::string& directory) {
  RESHARD_ASSIGN(const auto source, OpenSource(directory, "hf"));
  const Catalog& catalog = source->catalog();
  Likeness like;
  for (const Tensor& tensor : catalog.tensors()) {
    const auto chunks = catalog.chunks(tensor);
    if (chunks.empty()) continue;
    like.files[tensor.name] = fs::path(catalog.files()[chunks[0].file].path).filename().string();
    like.shapes[tensor.name] = tensor.shape;
  }
  return like;
}

Result<> PlanHf(const ConvertRequest& request, const std::vector<NamedView>& tensors,
                const std::map<std::string, std::string>& like,
                const std::map<std::string, std::string>& metadata, Plan* plan) {
  std::vector<std::pair<std::string, FileContent>> contents;
  if (request.like.empty()) {
    const auto packed = PackFiles(tensors, request.packing, request.shard_size);
    for (size_t i = 0; i < packed.size(); ++i)
      contents.emplace_back(WeightFileName(request.weights, i, packed.size()), packed[i]);
  } else {
    RESHARD_ASSIGN(contents, DistributeLike(tensors, request, like));
  }
  std::map<std::string, std::string> weight_map;
  uint64_t total_size = 0;
  for (const auto& [name, content] : contents) {
    std::vector<TensorDecl> declared;
    for (size_t index : content)
      declared.push_back(Declare(tensors[index].name, tensors[index].view));
    RESHARD_ASSIGN(FileLayout layout, LayoutWeights(request.weights, declared, metadata));
    plan->files.push_back(FillSlots(name, std::move(layout), content, tensors));
    for (const Slot& slot : plan->files.back().slots) {
      weight_map[slot.name] = name;
      total_size += slot.byte_size();
    }
  }
  if (contents.size() > 1)
    plan->files.push_back(
        TextFile(IndexFileName(request.weights), WriteWeightMap(total_size, weight_map)));
  return {};
}

Result<> PlanDcp(const ConvertRequest& request, const std::vector<NamedView>& tensors,
                 CarriedState state, Plan* plan) {
  // MindSpeed-MM's converters save {"model": tensors, "checkpoint_version": 3.0}.
  const std::string above = request.in_root ? "model." : "";
  std::vector<TensorDecl> declared;
  std::vector<dcp::Path> paths = std::move(state.paths);
  std::vector<DcpObject> objects = std::move(state.objects);
  plan->summary.objects = objects.size();
  for (const NamedView& tensor : tensors) {
    declared.push_back(Declare(above + tensor.name, tensor.view));
    if (request.in_root) paths.push_back({"model", tensor.name});
  }
  if (request.in_root)
    objects.push_back({.name = "checkpoint_version", .value = 3.0, .path = {"checkpoint_version"}});
  RESHARD_ASSIGN(
      DcpOutput output,
      LayoutDcp(declared, {.ranks = request.ranks, .paths = paths, .objects = objects}));
  for (DcpFile& file : output.files) {
    std::vector<NamedView> pieces;
    FileContent content;
    for (const DcpSlot& slot : file.slots) {
      View view = tensors[slot.tensor].view;
      if (!view.shape().empty()) {
        RESHARD_ASSIGN(view, View::Slice(view, 0, slot.start, slot.count));
      }
      content.push_back(pieces.size());
      pieces.push_back({declared[slot.tensor].name, std::move(view)});
    }
    plan->files.push_back(
        FillSlots(std::move(file.path), std::move(file.layout), content, pieces));
  }
  plan->files.push_back(TextFile(".metadata", std::move(output.metadata)));
  return {};
}

Result<> PlanMegatron(TargetTensors target, Plan* plan) {
  using megatron::ChunkDecl;
  const Layout& layout = target.layout;
  // Each file's tensors, chunk after chunk.
  std::map<std::tuple<int64_t, int64_t, int64_t>, std::vector<std::vector<RankTensor*>>> ranks;
  for (int64_t tp = 0; tp < layout.ranks; ++tp)
    for (int64_t pp = 0; pp < layout.pp; ++pp)
      for (int64_t ep = 0; ep < layout.ep; ++ep)
        if (layout.Exists(tp, ep)) ranks[{tp, pp, ep}].resize(static_cast<size_t>(layout.vpp));
  for (RankTensor& tensor : target.ranks)
    ranks[{tensor.tp, tensor.pp, tensor.ep}][static_cast<size_t>(tensor.chunk)].push_back(&tensor);

  const megatron::RankSizes sizes{.tp = static_cast<uint32_t>(layout.ranks),
                                  .pp = static_cast<uint32_t>(layout.pp),
                                  .ep = static_cast<uint32_t>(layout.ep)};
  for (auto& [place, chunks] : ranks) {
    const auto [tp, pp, ep] = place;
    std::vector<std::vector<TensorDecl>> declared;
    std::vector<NamedView> tensors;
    std::vector<ChunkDecl> decls;
    FileContent content;
    declared.reserve(chunks.size());
    for (uint32_t chunk = 0; chunk < chunks.size(); ++chunk) {
      std::ranges::sort(chunks[chunk], [](const RankTensor* a, const RankTensor* b) {
        return NaturalLess(a->name, b->name);
      });
      const std::string key =
          megatron::FormatChunk(chunk, static_cast<uint32_t>(layout.vpp));
      auto& own = declared.emplace_back();
      for (RankTensor* tensor : chunks[chunk]) {
        own.push_back(Declare(tensor->name, tensor->view));
        content.push_back(tensors.size());
        if (layout.vpp > 1) tensor->name.insert(0, key + "/");
        tensors.push_back({std::move(tensor->name), std::move(tensor->view)});
      }
      decls.push_back({key, own});
    }
    RESHARD_ASSIGN(FileLayout file, megatron::LayoutRankFile(decls));
    const megatron::Rank rank{.tp = static_cast<uint32_t>(tp),
                              .pp = static_cast<uint32_t>(pp),
                              .ep = static_cast<uint32_t>(ep)};
    plan->files.push_back(
        FillSlots(megatron::RankFilePath(rank, sizes), std::move(file), content, tensors));
  }
  return {};
}

}  // namespace reshard
