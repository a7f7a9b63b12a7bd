#include "api/unreadable.h"

#include <filesystem>
#include <optional>

#include <fmt/format.h>

#include "base/try.h"
#include "checkpoints/megatron/rank_name.h"

namespace reshard {
namespace {

// What the request or the recipe says of leaving a name out; nothing where neither does.
Result<std::optional<Dropped>> DroppedBy(const std::string& name, const std::vector<Regex>& ignore,
                                         const BoundRecipe& recipe, bool hub) {
  for (const Regex& regex : ignore) {
    RESHARD_ASSIGN(const bool found, regex.Search(name));
    if (found)
      return Dropped{.name = name,
                     .why = fmt::format("--ignore '{}'", regex.pattern()),
                     .by = LeftOutBy::kIgnore};
  }
  const auto of_rank = megatron::ParseTensorName(name);
  const std::string_view key = of_rank ? of_rank->key : std::string_view(name);
  const auto match = hub ? recipe.FindHub(key) : recipe.FindHere(key);
  if (!match || match->rule->kind != Rule::Kind::kDrop) return std::nullopt;
  return Dropped{.name = name, .why = match->rule->note};
}

}  // namespace

Result<> DropUnreadable(const Source& source, const std::vector<Regex>& ignore,
                        const BoundRecipe& recipe, bool hub, Mapping* mapping) {
  const Catalog& catalog = source.catalog();
  std::vector<const UnreadableTensor*> kept;
  for (const UnreadableTensor& tensor : catalog.unreadable()) {
    RESHARD_ASSIGN(auto dropped, DroppedBy(tensor.name, ignore, recipe, hub));
    if (dropped)
      mapping->dropped.push_back(*std::move(dropped));
    else
      kept.push_back(&tensor);
  }
  if (kept.empty()) return {};
  const UnreadableTensor& first = *kept.front();
  const std::string others =
      kept.size() == 1 ? "" : fmt::format(" ({} more tensors are not read either)", kept.size() - 1);
  return std::unexpected(Error{
      .kind = ErrorKind::kSource,
      .file = (std::filesystem::path(source.root()) / catalog.files()[first.file].path).string(),
      .tensor = first.name,
      .found = fmt::format("this is {}, which cannot be read{}", first.what, others),
      .expected = "a dense tensor under a name of its own",
      .help = fmt::format("save it as one (full_tensor(), dequantize(), to_dense()), or leave it out "
                          "with --ignore '^{}$'",
                          Regex::Escape(first.name))});
}

}  // namespace reshard
