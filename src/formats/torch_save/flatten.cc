#include "formats/torch_save/flatten.h"

#include <fmt/format.h>

#include <optional>
#include <span>
#include <utility>

#include "base/try.h"
#include "formats/torch_save/storage.h"
#include "formats/torch_save/summary.h"
#include "formats/torch_save/tensor.h"

namespace reshard::torch_save {
namespace {

using pickle::DictEntry;
using pickle::Kind;
using pickle::Value;

// The entries of a mapping; `owned` holds them where the pickle has them in another form.
struct Mapping {
  std::span<const DictEntry> entries;
  std::vector<DictEntry> owned;
};

bool IsSequence(const Value& value) { return value.is(Kind::kList) || value.is(Kind::kTuple); }

// Python 2 made an OrderedDict from a list of pairs.
std::optional<Mapping> FromPairs(const Value& pairs) {
  Mapping mapping;
  mapping.owned.reserve(pairs.items().size());
  for (const Value& pair : pairs.items()) {
    if (!IsSequence(pair) || pair.items().size() != 2) return std::nullopt;
    mapping.owned.push_back({.key = pair.items()[0], .value = pair.items()[1]});
  }
  mapping.entries = mapping.owned;
  return mapping;
}

std::optional<Mapping> AsMapping(const Value& value) {
  if (value.is(Kind::kDict)) return Mapping{.entries = value.entries(), .owned = {}};
  if (!value.is(Kind::kObject) || IsTensor(value)) return std::nullopt;
  const pickle::ObjectParts& parts = value.object();
  if (parts.entries.is(Kind::kDict))
    return Mapping{.entries = parts.entries.entries(), .owned = {}};

  const bool counter = value.IsObject("collections", "Counter");
  const bool ordered = value.IsObject("collections", "OrderedDict");
  if (!counter && !ordered && !value.IsObject("collections", "defaultdict")) return std::nullopt;
  const bool has_args = parts.args.is(Kind::kTuple) && !parts.args.items().empty();
  if (has_args && counter && parts.args.items()[0].is(Kind::kDict))
    return Mapping{.entries = parts.args.items()[0].entries(), .owned = {}};
  if (has_args && ordered && parts.args.items()[0].is(Kind::kList))
    return FromPairs(parts.args.items()[0]);
  return Mapping{};
}

class Flattener {
 public:
  Flattener(const std::string& file, const LeafVisitor& visit, const FlattenLimits& limits)
      : file_(file), visit_(visit), limits_(limits) {}

  // `name` is the joined `path_`.
  Result<> Descend(const Value& value, const std::string& name) {
    RESHARD_TRY(CheckDepth(path_.size()));
    if (const auto mapping = AsMapping(value)) {
      for (const DictEntry& entry : mapping->entries)
        RESHARD_TRY(DescendInto(KeyText(entry.key), entry.value, name));
      return {};
    }
    if (value.is(Kind::kList)) {
      RESHARD_ASSIGN(const bool leaf, IsPlain(value, path_.size()));
      if (!leaf) {
        int64_t index = 0;
        for (const Value& item : value.items()) RESHARD_TRY(DescendInto(index++, item, name));
        return {};
      }
    }
    return visit_(path_, name, value);
  }

 private:
  Result<> DescendInto(PathPart part, const Value& value, const std::string& parent) {
    std::string name = std::visit([](const auto& p) { return fmt::format("{}", p); }, part);
    if (!path_.empty()) name = fmt::format("{}.{}", parent, name);
    name_bytes_ += name.size();
    if (++paths_ > limits_.max_paths || name_bytes_ > limits_.max_name_bytes)
      return TooMuch(fmt::format("more than {} values, or {} bytes of their names",
                                 limits_.max_paths, limits_.max_name_bytes));
    path_.push_back(std::move(part));
    RESHARD_TRY(Descend(value, name));
    path_.pop_back();
    return {};
  }

  // True for a list that holds no mapping and no tensor, in itself or in lists within it.
  Result<bool> IsPlain(const Value& list, size_t depth) {
    RESHARD_TRY(CheckDepth(depth));
    scanned_ += list.items().size();
    if (scanned_ > limits_.max_scanned)
      return TooMuch(fmt::format("more than {} items in lists", limits_.max_scanned));
    for (const Value& item : list.items()) {
      if (IsTensor(item) || AsMapping(item)) return false;
      if (!item.is(Kind::kList)) continue;
      RESHARD_ASSIGN(const bool plain, IsPlain(item, depth + 1));
      if (!plain) return false;
    }
    return true;
  }

  Result<> CheckDepth(size_t depth) const {
    if (depth <= limits_.max_depth) return {};
    return TooMuch(fmt::format("values nested more than {} deep", limits_.max_depth));
  }

  std::unexpected<Error> TooMuch(std::string found) const {
    return BadPickle(file_, std::move(found), "a state dict");
  }

  const std::string& file_;
  const LeafVisitor& visit_;
  const FlattenLimits& limits_;
  Path path_;
  uint64_t paths_ = 0;
  uint64_t scanned_ = 0;
  uint64_t name_bytes_ = 0;
};

}  // namespace

Result<> Flatten(const Value& root, const std::string& file, const LeafVisitor& visit,
                 const FlattenLimits& limits) {
  return Flattener(file, visit, limits).Descend(root, {});
}

}  // namespace reshard::torch_save
