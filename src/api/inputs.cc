#include "api/inputs.h"

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "base/try.h"
#include "io/directory.h"
#include "io/file.h"

namespace reshard {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kConfigName = "config.json";

// What is not there now is no input; whoever needs it says so.
void Note(const fs::path& path, std::vector<SourceFile>* inputs) {
  if (auto state = StatFile({}, path.string())) inputs->push_back(*std::move(state));
}

// The files in a directory whose names end in one of these.
void NoteAll(const std::string& directory, std::initializer_list<std::string_view> endings,
             std::vector<SourceFile>* inputs) {
  if (directory.empty() || KindAt(directory) != PathKind::kDirectory) return;
  const auto names = ListDirectory(directory);
  if (!names) return;
  for (const std::string& name : *names)
    if (std::ranges::any_of(endings, [&](std::string_view end) { return name.ends_with(end); }))
      Note(fs::path(directory) / name, inputs);
}

// Resolves links, each directory once: a checkpoint may have ten thousand files.
class RealPaths {
 public:
  // Where a file really lies; its own path where that cannot be told.
  fs::path Of(const fs::path& path) {
    std::error_code code;
    const fs::path whole = fs::absolute(path, code);
    if (code) return path;
    if (fs::symlink_status(whole, code).type() == fs::file_type::symlink) return Whole(whole);
    const auto [at, is_new] = parents_.try_emplace(whole.parent_path());
    if (is_new) at->second = Whole(whole.parent_path());
    return at->second / whole.filename();
  }

 private:
  static fs::path Whole(const fs::path& path) {
    std::error_code code;
    const fs::path real = fs::weakly_canonical(path, code);
    return code ? path : real;
  }

  std::map<fs::path, fs::path> parents_;
};

bool IsWithin(const fs::path& inner, const fs::path& outer) {
  return std::ranges::mismatch(outer, inner).in1 == outer.end();
}

// All that must outlive the run, in the words of whoever named it.
std::vector<fs::path> InUse(const ConvertRequest& request, const Source& source,
                            const std::vector<SourceFile>& inputs) {
  std::vector<fs::path> paths;
  for (const std::string& named :
       {source.root(), request.assets_from, request.llm_from, request.like})
    if (!named.empty()) paths.emplace_back(named);
  if (!source.root().empty())
    for (const SourceFile& file : source.catalog().files())
      paths.push_back(fs::path(source.root()) / file.path);
  for (const SourceFile& input : inputs) paths.emplace_back(input.path);
  std::error_code code;  // A directory that is gone cannot be lost.
  if (fs::path current = fs::current_path(code); !code) paths.push_back(std::move(current));
  return paths;
}

}  // namespace

std::vector<SourceFile> FindInputs(const ConvertRequest& request) {
  std::vector<SourceFile> inputs;
  for (const std::string& directory : {request.source, request.llm_from})
    NoteAll(directory, {".index.json"}, &inputs);
  for (const std::string& directory : {request.like, request.assets_from})
    NoteAll(directory, {".safetensors", ".bin", ".index.json"}, &inputs);
  // A recipe's name may be that of no file.
  for (const std::string& recipe : {request.recipe, request.from_recipe})
    if (recipe.contains('/') || recipe.ends_with(".toml")) Note(recipe, &inputs);
  for (const std::string& file : request.read_from) Note(file, &inputs);
  return inputs;
}

void AddConfigs(const ConvertRequest& request, const Source& source,
                std::vector<SourceFile>* inputs) {
  if (!request.assets_from.empty()) {
    Note(fs::path(request.assets_from) / kConfigName, inputs);
  } else if (!source.root().empty()) {
    Note(fs::path(source.root()) / kConfigName, inputs);
    Note(fs::path(source.root()).parent_path() / kConfigName, inputs);
  }
}

void SettleInputs(const Plan& plan, const std::string& assets, std::vector<SourceFile>* inputs) {
  std::erase_if(*inputs, [&](const SourceFile& input) {
    const fs::path path = input.path;
    return path.filename() == kConfigName && path.parent_path() != fs::path(assets);
  });
  for (const FilePlan& file : plan.files)
    if (!file.copy_of.empty()) Note(file.copy_of, inputs);
}

Result<> CheckUnchanged(const Source& source, const std::vector<SourceFile>& inputs) {
  if (!source.root().empty())  // else the source lies in memory
    for (const SourceFile& file : source.catalog().files())
      RESHARD_TRY(CheckUnchanged(source.root(), file));
  for (const SourceFile& input : inputs) RESHARD_TRY(CheckUnchanged({}, input));
  return {};
}

Result<> CheckNotInUse(const ConvertRequest& request, const Source& source,
                       const std::vector<SourceFile>& inputs) {
  RESHARD_ASSIGN(const fs::path whole,
                 AbsolutePath(request.destination, ErrorKind::kDestination));
  std::error_code code;
  fs::path destination = fs::weakly_canonical(whole, code);
  if (code)
    return std::unexpected(SystemError(ErrorKind::kDestination, request.destination,
                                       "look at the directories above the destination",
                                       code.value()));
  if (!destination.has_filename()) destination = destination.parent_path();
  RealPaths real;
  for (const fs::path& path : InUse(request, source, inputs)) {
    if (!IsWithin(real.Of(path), destination)) continue;
    return std::unexpected(Error{
        .kind = ErrorKind::kUsage,
        .file = request.destination,
        .found = fmt::format("the destination holds '{}', which is in use", path.string()),
        .expected = "a directory of its own",
        .help = "choose another destination"});
  }
  return {};
}

}  // namespace reshard
