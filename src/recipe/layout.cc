#include "recipe/layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/checked_math.h"
#include "base/nearest.h"
#include "base/try.h"
#include "recipe/toml_fields.h"

namespace reshard {
namespace {

constexpr int64_t kMaxRanks = 1 << 20;

Error Usage(std::string found, std::string expected) {
  return Error{.kind = ErrorKind::kUsage,
               .found = std::move(found),
               .expected = std::move(expected),
               .help = "reshard convert --help shows the layout flags"};
}

std::unexpected<Error> DoesNotFit(std::string found, std::string expected, std::string help = {}) {
  return std::unexpected(Error{.kind = ErrorKind::kMapping,
                               .found = std::move(found),
                               .expected = std::move(expected),
                               .help = std::move(help)});
}

// The names of fields; those of parts ("vit") end like the last ones, whatever parts a recipe has.
const std::vector<std::string>& FieldNames() {
  static const std::vector<std::string> names = {
      "tp",     "pp",       "vpp",           "ep",            "etp",
      "vit-tp", "audio-tp", "llm-pp-layers", "vit-pp-layers", "audio-pp-layers"};
  return names;
}

Error UnknownField(std::string_view name) {
  const std::string nearest = Nearest(name, FieldNames());
  Error error = Usage(fmt::format("there is no layout field '{}'", name),
                      fmt::format("one of {}", fmt::join(FieldNames(), ", ")));
  if (!nearest.empty()) error.help = fmt::format("did you mean {}?", nearest);
  return error;
}

// Sets one named number or list: "tp", "vit-tp", "llm-pp-layers".
Result<> SetField(std::string_view name, std::string_view value, LayoutRequest* request) {
  if (name.ends_with("-pp-layers")) {
    RESHARD_ASSIGN(request->part_layers[std::string(name.substr(0, name.size() - 10))],
                   ParseLayerRows(value));
    return {};
  }
  if (!name.ends_with("-tp") && std::ranges::find(FieldNames(), name) == FieldNames().end())
    return std::unexpected(UnknownField(name));
  int64_t number = 0;
  const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (code != std::errc() || end != value.data() + value.size() || number < 1 || number > kMaxRanks)
    return std::unexpected(
        Usage(fmt::format("{} = '{}'", name, value), fmt::format("1 to {}", kMaxRanks)));
  const std::pair<std::string_view, int64_t*> fields[] = {{"tp", &request->tp},
                                                          {"pp", &request->pp},
                                                          {"vpp", &request->vpp},
                                                          {"ep", &request->ep},
                                                          {"etp", &request->etp}};
  for (const auto& [field, target] : fields)
    if (name == field) {
      *target = number;
      return {};
    }
  request->part_tp[std::string(name.substr(0, name.size() - 3))] = number;
  return {};
}

std::string RowsText(const LayerRows& rows) {
  std::vector<std::string> texts;
  for (const auto& row : rows) texts.push_back(fmt::format("[{}]", fmt::join(row, ",")));
  return fmt::format("[{}]", fmt::join(texts, ","));
}

}  // namespace

Result<LayerRows> ParseLayerRows(std::string_view text) {
  const auto fault = [&] {
    return std::unexpected(Usage(fmt::format("layers '{}'", text),
                                 "a list for each chunk, all of one length: [[4,4],[4,2]]"));
  };
  std::string compact;
  for (char c : text)
    if (c != ' ') compact += c;
  if (!compact.starts_with("[[")) compact = "[" + compact + "]";
  LayerRows rows;
  size_t at = 1;
  while (at < compact.size() && compact[at] == '[') {
    auto& row = rows.emplace_back();
    do {
      int64_t number = 0;
      const auto [end, code] =
          std::from_chars(compact.data() + at + 1, compact.data() + compact.size(), number);
      if (code != std::errc() || number < 0 || number > kMaxRanks) return fault();
      row.push_back(number);
      at = static_cast<size_t>(end - compact.data());
    } while (at < compact.size() && compact[at] == ',');
    if (at >= compact.size() || compact[at] != ']' || row.size() != rows[0].size()) return fault();
    ++at;
    if (at < compact.size() && compact[at] == ',') ++at;
  }
  if (rows.empty() || at + 1 != compact.size() || compact[at] != ']') return fault();
  return rows;
}

Result<> ParseLayoutText(std::string_view text, LayoutRequest* request) {
  while (!text.empty()) {
    // A comma within brackets belongs to a list.
    size_t end = 0;
    for (int depth = 0; end < text.size() && (depth > 0 || text[end] != ','); ++end)
      depth += text[end] == '[' ? 1 : text[end] == ']' ? -1 : 0;
    const std::string_view field = text.substr(0, end);
    const size_t equals = field.find('=');
    if (equals == std::string_view::npos)
      return std::unexpected(Usage(fmt::format("'{}' has no '='", field), "tp=2,pp=4"));
    RESHARD_TRY(SetField(field.substr(0, equals), field.substr(equals + 1), request));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return {};
}

Result<> ReadLayoutFile(const std::string& path, LayoutRequest* request) {
  RESHARD_ASSIGN(const std::string text, ReadTomlText(path, "layout"));
  RESHARD_ASSIGN(const toml::table table, ParseToml(text, path));
  for (const auto& [key, node] : table) {
    std::ostringstream value;
    node.visit([&](const auto& plain) { value << plain; });
    std::string name(key.str());
    std::ranges::replace(name, '_', '-');
    std::string plain = value.str();
    std::erase(plain, '\n');
    std::erase_if(plain, [](char c) { return c == '\'' || c == '"'; });
    if (auto set = SetField(name, plain, request); !set) {
      set.error().file = fmt::format("{}:{}", path, node.source().begin.line);
      return set;
    }
  }
  return {};
}

std::string LayoutText(const LayoutRequest& request) {
  std::vector<std::string> fields;
  const auto add = [&](std::string_view name, int64_t value) {
    if (value > 0) fields.push_back(fmt::format("{}={}", name, value));
  };
  add("tp", request.tp);
  add("pp", request.pp);
  add("vpp", request.vpp);
  add("ep", request.ep);
  add("etp", request.etp);
  for (const auto& [part, tp] : request.part_tp) add(part + "-tp", tp);
  for (const auto& [part, rows] : request.part_layers)
    fields.push_back(fmt::format("{}-pp-layers={}", part, RowsText(rows)));
  return fmt::format("{}", fmt::join(fields, ","));
}

StageList::StageList(std::vector<int64_t> layers) : layers_(std::move(layers)) {
  int64_t begin = 0;
  first_ = layers_.size();
  for (size_t entry = 0; entry < layers_.size(); ++entry) {
    begins_.push_back(begin);
    begin += layers_[entry];
    if (layers_[entry] == 0) continue;
    first_ = std::min(first_, entry);
    last_ = entry;
  }
  if (first_ == layers_.size()) first_ = 0;
}

std::optional<size_t> StageList::EntryOf(Stage::Place place) const {
  switch (place) {
    case Stage::Place::kFirst:
      return first_;
    case Stage::Place::kLast:
      return last_;
    case Stage::Place::kStart:
      return 0;
    case Stage::Place::kEnd:
      return layers_.size() - 1;
    case Stage::Place::kEvery:
    case Stage::Place::kLayer:
      break;
  }
  return std::nullopt;
}

size_t StageList::Of(int64_t layer) const {
  size_t entry = 0;
  while (layer >= begins_[entry] + layers_[entry]) ++entry;
  return entry;
}

bool Layout::Exists(int64_t tp_rank, int64_t ep_rank) const {
  if (etp == ranks) return true;
  for (int64_t process = tp_rank; process < ranks * etp * ep; process += ranks)
    if (process / etp % ep == ep_rank) return true;
  return false;
}

namespace {

// A product of numbers that are each harmless must not ask for more memory than there is.
Result<> CheckSize(const Layout& layout) {
  int64_t all = 1;
  for (int64_t size : {layout.ranks, layout.pp, layout.vpp, layout.ep}) {
    all = CheckedMul(all, size).value_or(kMaxRanks + 1);
    if (all > kMaxRanks)
      return DoesNotFit(fmt::format("tp {}, pp {}, vpp {} and ep {}", layout.ranks, layout.pp,
                                    layout.vpp, layout.ep),
                        fmt::format("at most {} ranks and chunks", kMaxRanks));
  }
  return {};
}

Result<> CheckDivides(std::string_view name, int64_t size, int64_t ranks) {
  if (ranks % size == 0) return {};
  return DoesNotFit(fmt::format("{} is {}", name, size),
                    fmt::format("a number that divides {}, the largest tensor parallel size of "
                                "the model and its parts",
                                ranks));
}

}  // namespace

Result<Layout> ResolveLayout(const LayoutRequest& request,
                             const std::map<std::string, int64_t>& layers) {
  Layout layout;
  layout.tp = std::max<int64_t>(request.tp, 1);
  layout.ep = std::max<int64_t>(request.ep, 1);
  layout.etp = request.etp > 0 ? request.etp : layout.tp;
  layout.pp = request.pp;
  layout.vpp = request.vpp;
  // The longest list counts; the language model's, where others are as long.
  for (const auto& [part, rows] : request.part_layers) {
    const auto columns = std::ssize(rows[0]), count = std::ssize(rows);
    if (request.pp > 0 && columns > request.pp)
      return DoesNotFit(fmt::format("{} stages in {}-pp-layers", columns, part),
                        fmt::format("the {} of --pp", request.pp));
    if (request.vpp > 0 && count > request.vpp)
      return DoesNotFit(fmt::format("{} chunks in {}-pp-layers", count, part),
                        fmt::format("the {} of --vpp", request.vpp));
    if (request.pp == 0) layout.pp = std::max<int64_t>(layout.pp, columns);
    if (request.vpp == 0) layout.vpp = std::max<int64_t>(layout.vpp, count);
  }
  layout.pp = std::max<int64_t>(layout.pp, 1);
  layout.vpp = std::max<int64_t>(layout.vpp, 1);
  const int64_t stages = layout.pp * layout.vpp;

  layout.ranks = layout.tp;
  for (const auto& [part, tp] : request.part_tp) {
    if (tp == 0) continue;
    layout.part_tp[part] = tp;
    layout.ranks = std::max(layout.ranks, tp);
  }
  RESHARD_TRY(CheckSize(layout));
  RESHARD_TRY(CheckDivides("tp", layout.tp, layout.ranks));
  for (const auto& [part, size] : layout.part_tp)
    RESHARD_TRY(CheckDivides(part + "-tp", size, layout.ranks));
  RESHARD_TRY(CheckDivides("etp", layout.etp, layout.ranks));

  for (const auto& [part, count] : layers) {
    std::vector<int64_t> flat;
    const auto rows = request.part_layers.find(part);
    if (rows == request.part_layers.end()) {
      if (count % stages != 0)
        return DoesNotFit(
            fmt::format("{} layers of '{}' on {} stages of {} chunks", count, part, layout.pp,
                        layout.vpp),
            "a number that divides",
            fmt::format("say how many layers each has: --{}-pp-layers '[[...]]'", part));
      flat.assign(static_cast<size_t>(stages), count / stages);
    } else {
      for (const auto& row : rows->second) flat.insert(flat.end(), row.begin(), row.end());
      int64_t sum = 0;
      for (int64_t entry : flat) sum += entry;
      if (sum != count)
        return DoesNotFit(
            fmt::format("{}-pp-layers {} sum to {}", part, RowsText(rows->second), sum),
            fmt::format("the {} layers of the model", count));
      if (stages % std::ssize(flat) != 0)
        return DoesNotFit(
            fmt::format("{}-pp-layers has {} entries for {} stages", part, flat.size(), stages),
            "as many, or a number that divides them");
    }
    layout.stages.emplace(part, StageList(std::move(flat)));
  }
  return layout;
}

Result<> CheckUsesStages(const Layout& layout, const LayoutRequest& request,
                         const std::map<std::string, int64_t>& layers) {
  const int64_t stages = layout.pp * layout.vpp;
  const auto& lists = request.part_layers;
  const bool evenly = std::ranges::any_of(
      layers, [&](const auto& part) { return !lists.contains(part.first); });
  if (stages == 1 || lists.empty() || evenly) return {};
  for (const auto& [part, rows] : lists)
    if (std::ssize(rows) * std::ssize(rows[0]) == stages) return {};
  const auto& [part, rows] = *lists.begin();
  return DoesNotFit(
      fmt::format("{} stages of {} chunks, and {}-pp-layers {}", layout.pp, layout.vpp, part,
                  RowsText(rows)),
      fmt::format("a list for some part with all {} entries: a shorter one repeats, and each of "
                  "its layers would stand on several stages",
                  stages));
}

}  // namespace reshard
