#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include <fmt/format.h>
#include <simdjson.h>

#include "base/json_memory.h"
#include "base/try.h"
#include "checkpoints/hf/hf_index.h"
#include "checkpoints/hf/hf_source.h"
#include "formats/dcp/relative_path.h"
#include "io/directory.h"
#include "io/file.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

// An index of 250,000 tensors has 25 to 40 MB. Parsing takes up to eleven times its size.
constexpr uint64_t kMaxIndexBytes = uint64_t{44} << 20;
constexpr size_t kMaxIndexTensors = 1'000'000;
constexpr ptrdiff_t kShown = 3;  // names in an error

// "<stem>-00002-of-00005<extension>": the number and the count; nothing for other names.
struct PartName {
  std::string stem;
  uint64_t number;
  uint64_t count;
};

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<PartName> ParsePartName(const std::string& name, std::string_view extension) {
  if (!name.ends_with(extension)) return std::nullopt;
  const std::string_view base = std::string_view(name).substr(0, name.size() - extension.size());
  const size_t of = base.rfind("-of-");
  if (of == std::string_view::npos) return std::nullopt;
  const size_t dash = base.rfind('-', of - 1);
  if (of == 0 || dash == std::string_view::npos) return std::nullopt;
  const auto number = ParseNumber(base.substr(dash + 1, of - dash - 1));
  const auto count = ParseNumber(base.substr(of + 4));
  if (!number || !count || *number < 1 || *number > *count) return std::nullopt;
  return PartName{std::string(base.substr(0, dash)), *number, *count};
}

// Parts of a set without an index: all of them must be there.
Result<std::vector<std::string>> FindParts(const fs::path& directory,
                                           const std::set<std::string>& names,
                                           std::string_view extension) {
  std::vector<std::string> parts;
  std::map<std::pair<std::string, uint64_t>, std::set<uint64_t>> sets;
  for (const std::string& name : names) {
    const auto part = ParsePartName(name, extension);
    if (!part || name.starts_with("shard-")) continue;
    parts.push_back(name);
    sets[{part->stem, part->count}].insert(part->number);
  }
  for (const auto& [key, numbers] : sets)
    for (uint64_t number = 1; number <= key.second; ++number)
      if (!numbers.contains(number))
        return std::unexpected(Error{
            .kind = ErrorKind::kSource,
            .file = (directory / fmt::format("{}-{:05}-of-{:05}{}", key.first, number, key.second,
                                             extension))
                        .string(),
            .found = "this file is missing",
            .expected = fmt::format("all {} parts of '{}'", key.second, key.first),
            .help = "copy the checkpoint again, with every file"});
  return parts;
}

}  // namespace

Result<std::map<std::string, std::string>> ReadWeightMap(const fs::path& index) {
  RESHARD_ASSIGN(const std::string text, ReadTextFile(index, kMaxIndexBytes));
  return ParseWeightMap(text, index.string());
}

Result<std::map<std::string, std::string>> ParseWeightMap(std::string_view text,
                                                          const std::string& index) {
  const auto fault = [&](std::string found) {
    return std::unexpected(
        Error{.kind = ErrorKind::kSource,
              .file = index,
              .found = std::move(found),
              .expected = "a JSON object with \"weight_map\": {\"tensor\": \"file\"}",
              .help = "the index is damaged: copy it again"});
  };
  simdjson::dom::parser parser;
  simdjson::dom::object map;
  if (JsonFault(parser.parse(text.data(), text.size()).at_key("weight_map").get(map)))
    return fault("it has no weight_map, or is no JSON");
  std::map<std::string, std::string> files;
  for (const auto& [tensor, value] : map) {
    std::string_view file;
    if (value.get(file)) return fault(fmt::format("'{}' has no file name", tensor));
    const auto problem = dcp::PathProblem(file);
    const std::string place = problem ? "" : fs::path(file).lexically_normal().string();
    if (problem || place == ".")
      return fault(fmt::format("'{}' is to lie in '{}', which {}", tensor, file,
                               problem.value_or("is the directory itself")));
    if (files.size() == kMaxIndexTensors)
      return fault(fmt::format("it names more than {} tensors", kMaxIndexTensors));
    files.insert_or_assign(std::string(tensor), place);  // The last counts, as in Python.
  }
  return files;
}

Result<> CheckFilesOfIndex(const fs::path& directory, const HfFiles& files) {
  if (files.index.empty()) return {};
  std::set<std::string> missing;
  for (const std::string& name : files.names) {
    RESHARD_ASSIGN(const PathKind kind, KindAt(directory / name));
    if (kind == PathKind::kNothing) missing.insert(name);
  }
  if (missing.empty()) return {};
  RESHARD_ASSIGN(const auto map, ReadWeightMap(directory / files.index));
  const auto lost = std::ranges::count_if(
      map, [&](const auto& entry) { return missing.contains(entry.second); });
  // A link to what is gone is told by the file, with what brings it back.
  const fs::path first = directory / *missing.begin();
  std::error_code code;
  const bool link = fs::is_symlink(first, code);
  const auto shown = std::ranges::subrange(
      missing.begin(), std::next(missing.begin(), std::min<ptrdiff_t>(std::ssize(missing), kShown)));
  return std::unexpected(
      Error{.kind = ErrorKind::kSource,
            .file = link ? first.string() : (directory / files.index).string(),
            .found = fmt::format("{} of the {} files that the index names are not here: {}{}, with {} "
                                 "of its {} tensors",
                                 missing.size(), files.names.size(), fmt::join(shown, ", "),
                                 std::ssize(missing) > kShown ? ", ..." : "", lost, map.size()),
            .expected = "every file that the index names",
            .help = "copy or download the missing files; where the index is of an older save and the "
                    "files that are here are whole, move the index away: files named "
                    "NAME-0000X-of-0000Y are found without it"});
}

Result<HfFiles> FindHfFiles(const fs::path& directory) {
  RESHARD_ASSIGN(const std::vector<std::string> listed, ListDirectory(directory));
  const std::set<std::string> names(listed.begin(), listed.end());
  HfFiles files;
  for (const std::string& name : names)
    if (name.starts_with("shard-") && name.ends_with(".safetensors")) files.names.push_back(name);
  if (!files.names.empty()) {
    files.layout = HfFiles::Layout::kDcpShards;
    files.evidence = fmt::format("{} shard-*.safetensors files of DCP", files.names.size());
    return files;
  }
  struct Kind {
    std::string_view single, index, extension;
    HfFiles::Layout layout;
  };
  for (const Kind& kind :
       {Kind{"model.safetensors", "model.safetensors.index.json", ".safetensors",
             HfFiles::Layout::kSafetensors},
        Kind{"pytorch_model.bin", "pytorch_model.bin.index.json", ".bin", HfFiles::Layout::kBin}}) {
    files.layout = kind.layout;
    if (names.contains(std::string(kind.single))) {
      files.names = {std::string(kind.single)};
      files.evidence = kind.single;
      return files;
    }
    if (names.contains(std::string(kind.index))) {
      files.index = kind.index;
      files.evidence = kind.index;
      RESHARD_ASSIGN(const auto map, ReadWeightMap(directory / files.index));
      std::set<std::string> distinct;
      for (const auto& [tensor, file] : map) distinct.insert(file);
      files.names.assign(distinct.begin(), distinct.end());
      return files;
    }
  }
  for (const auto& [extension, layout] :
       {std::pair{".safetensors", HfFiles::Layout::kSafetensors},
        std::pair{".bin", HfFiles::Layout::kBin}}) {
    RESHARD_ASSIGN(files.names, FindParts(directory, names, extension));
    if (files.names.empty()) continue;
    files.layout = layout;
    files.evidence = fmt::format("{} parts without an index", files.names.size());
    return files;
  }
  return files;
}

}  // namespace reshard
