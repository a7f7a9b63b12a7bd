#include "api/carried_state.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "recipe/recipe.h"
#include "recipe/regex.h"

namespace reshard {
namespace {

// Objects lie in the plan, so they must fit in memory.
constexpr uint64_t kMaxBytes = 256 << 20;

constexpr size_t kNamesShown = 20;

std::unexpected<Error> CannotHold(const Source& source, const std::vector<std::string>& names) {
  std::vector<std::string> shown(names.begin(),
                                 names.begin() + std::min(names.size(), kNamesShown));
  std::vector<std::string> escaped;
  for (const std::string& name : names) escaped.push_back(Regex::Escape(name));
  const std::string_view more = names.size() > kNamesShown ? ", ..." : "";
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .file = source.root(),
            .found = fmt::format("the target cannot hold {} {}: {}{}", names.size(),
                                 names.size() == 1 ? "object" : "objects", fmt::join(shown, ", "),
                                 more),
            .expected = "tensors, or objects of a DCP checkpoint",
            .help = fmt::format("leave them out with --ignore '^({})$'", fmt::join(escaped, "|"))});
}

Result<std::vector<DcpObject>> CarryObjects(const ConvertRequest& request, const Source& source) {
  std::vector<Regex> ignore;
  for (const std::string& expression : request.ignore) {
    RESHARD_ASSIGN(Regex regex, Regex::Compile(expression));
    ignore.push_back(std::move(regex));
  }
  std::vector<DcpObject> objects;
  std::vector<std::string> lost;
  uint64_t bytes = 0;
  for (const Object& object : source.catalog().objects()) {
    bool ignored = false;
    for (const Regex& regex : ignore) {
      RESHARD_ASSIGN(const bool found, regex.Search(object.name));
      ignored |= found;
    }
    if (ignored) continue;
    RESHARD_ASSIGN(auto stored, source.ReadObject(object));
    if (!stored) {
      lost.push_back(object.name);
      continue;
    }
    bytes += stored->size();
    if (bytes > kMaxBytes)
      return std::unexpected(Error{.kind = ErrorKind::kMapping,
                                   .tensor = object.name,
                                   .found = fmt::format("with it the objects have {} bytes", bytes),
                                   .expected = fmt::format("at most {}", kMaxBytes),
                                   .help = "leave the largest out with --ignore"});
    objects.push_back({.name = object.name,
                       .value = {},
                       .path = source.PathOf(object.name),
                       .stored = std::move(stored)});
  }
  if (!lost.empty() && request.recipe == HubNames().name()) return CannotHold(source, lost);
  return objects;
}

}  // namespace

Result<CarriedState> CarryState(const ConvertRequest& request, const Flavors& flavors,
                                const Source& source, const std::vector<NamedView>& tensors) {
  CarriedState state;
  if (!flavors.keep_names() || !request.only.empty() || request.in_root) return state;
  RESHARD_ASSIGN(state.objects, CarryObjects(request, source));
  for (const NamedView& tensor : tensors) state.paths.push_back(source.PathOf(tensor.name));
  return state;
}

}  // namespace reshard
