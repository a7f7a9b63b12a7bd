#include "api/manifest.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>
#include <simdjson.h>
#include <xxhash.h>

#include "base/json_memory.h"
#include "base/json_writer.h"
#include "base/try.h"
#include "io/directory.h"

namespace reshard {
namespace {

constexpr uint64_t kManifestVersion = 1;

// Of an output of 16 TB it has 4 million checksums.
constexpr ptrdiff_t kMaxManifestValues = 5'000'000;

std::optional<uint64_t> ParseHex(std::string_view text) {
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (text.size() != 16 || code != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

// Whether a relative path leads to a place within its directory.
bool StaysInside(const std::filesystem::path& path) {
  return !path.empty() && path.is_relative() && !path.native().contains('\0') &&
         std::ranges::find(path, "..") == path.end();
}

void WriteRequest(const ConvertRequest& request, JsonWriter* json) {
  json->BeginObject();
  json->Member("to", TargetText(request));
  json->Member("iteration", IterationText(request.iteration));
  json->Member("pad_vocab_to", VocabPaddingText(request.vocab_padding));
  json->Member("hub_form", request.hub_form);
  json->Member("only", request.only);
  json->Member("packing", request.packing == Packing::kNatural ? "natural" : "lexicographic");
  json->Member("dtype", request.dtype ? DTypeName(*request.dtype) : "keep");
  json->Key("dtype_for");
  json->BeginArray();
  for (const auto& [expression, dtype] : request.dtype_for)
    json->Value(fmt::format("{}={}", expression, DTypeName(dtype)));
  json->EndArray();
  json->Member("dequantize", request.dequantize.has_value());
  json->Member("shard_size", request.shard_size);
  json->Member("weights", request.weights == Weights::kSafetensors ? "safetensors" : "bin");
  json->Member("ignore", request.ignore);
  json->EndObject();
}

}  // namespace

std::string RequestJson(const ConvertRequest& request) {
  JsonWriter json;
  WriteRequest(request, &json);
  return json.Take();
}

std::string WriteManifest(const ConvertRequest& request, const Plan& plan,
                          const std::string& recipe_text, const std::vector<FileChecksum>& sums) {
  JsonWriter json({.indent = 1});
  json.BeginObject();
  json.Member("reshard_manifest", kManifestVersion);
  json.Member("plan_id", plan.summary.plan_id);
  json.Member("program_version", RESHARD_VERSION);
  json.Member("recipe", plan.summary.recipe);
  json.Member("recipe_xxh3", fmt::format("{:016x}", XXH3_64bits(recipe_text.data(),
                                                                recipe_text.size())));
  json.Key("request");
  WriteRequest(request, &json);
  json.Member("left_out", plan.summary.left_out);
  json.Member("block_bytes", kBlockBytes);
  json.Key("files");
  json.BeginArray();
  for (size_t i = 0; i < plan.files.size(); ++i) {
    json.BeginObject();
    json.Member("path", plan.files[i].path);
    json.Member("size", sums[i].size);
    json.Member("xxh3_root", sums[i].Root());
    json.Key("xxh3_blocks");
    json.BeginArray();
    for (uint64_t block : sums[i].blocks) json.Value(fmt::format("{:016x}", block));
    json.EndArray();
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
  return json.Take() + "\n";
}

std::string PlanIdOf(const std::string& json) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  std::string_view plan_id;
  if (parser.parse(json).get(document) || document["plan_id"].get(plan_id)) return {};
  return std::string(plan_id);
}

Result<std::vector<ManifestFile>> ReadManifest(const std::string& text, const std::string& file) {
  const auto fault = [&](std::string found) {
    return std::unexpected(Error{.kind = ErrorKind::kSource,
                                 .file = file,
                                 .found = std::move(found),
                                 .expected = "a manifest that reshard wrote",
                                 .help = "without it the files cannot be checked: convert again"});
  };
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  uint64_t version = 0, block_bytes = 0;
  if (std::ranges::count_if(text, [](char c) { return c == ',' || c == '['; }) > kMaxManifestValues)
    return fault(fmt::format("the manifest has more than {} values", kMaxManifestValues));
  if (JsonFault(parser.parse(text).get(document))) return fault("the manifest is no JSON");
  if (document["reshard_manifest"].get(version) || version != kManifestVersion ||
      document["block_bytes"].get(block_bytes) || block_bytes != kBlockBytes)
    return fault("the manifest has another version");
  simdjson::dom::array list;
  if (document["files"].get(list)) return fault("the manifest lists no files");
  std::vector<ManifestFile> files;
  for (const simdjson::dom::element entry : list) {
    std::string_view path, root;
    uint64_t size = 0;
    simdjson::dom::array blocks;
    if (entry["path"].get(path) || entry["size"].get(size) || entry["xxh3_root"].get(root) ||
        entry["xxh3_blocks"].get(blocks))
      return fault("a file of the manifest lacks its path, size or checksums");
    if (!StaysInside(path))
      return fault(fmt::format("the manifest lists '{}', outside this directory", path));
    ManifestFile& listed = files.emplace_back(ManifestFile{std::string(path), {.size = size}});
    for (const simdjson::dom::element block : blocks) {
      std::string_view digits;
      std::optional<uint64_t> sum;
      if (!block.get(digits)) sum = ParseHex(digits);
      if (!sum) return fault(fmt::format("a checksum of '{}' is damaged", path));
      listed.sum.blocks.push_back(*sum);
    }
    if (listed.sum.Root() != root || listed.sum.blocks.size() != BlockCount(size))
      return fault(fmt::format("the checksums of '{}' are damaged", path));
  }
  return files;
}

void WarnOfReplacing(const StagedOutput& output, const std::filesystem::path& destination,
                     Reporter& reporter) {
  // Where it cannot be told whether one is there, the warning is the safe answer.
  const auto manifest = KindAt(destination / kManifestName, ErrorKind::kDestination);
  if (!output.replaces() || (manifest && *manifest != PathKind::kNothing)) return;
  reporter.OnWarning(fmt::format("'{}' is not an output of reshard; all that it holds goes when the "
                                 "new output is complete",
                                 destination.string()));
}

}  // namespace reshard
