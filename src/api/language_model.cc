#include "api/language_model.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/try.h"
#include "checkpoints/hf/hf_config.h"
#include "checkpoints/joined_source.h"
#include "recipe/index_text.h"
#include "recipe/regex.h"
#include "reshard/convert.h"

namespace reshard {
namespace {

// Where the config.json of a language model says how many layers it has.
constexpr std::array<std::string_view, 4> kLayerCounts = {
    "num_hidden_layers", "text_config.num_hidden_layers", "n_layer", "num_layers"};

std::optional<int64_t> LayersOf(const ModelConfig& config) {
  for (std::string_view path : kLayerCounts)
    if (const auto count = config.Number(path)) return count;
  return std::nullopt;
}

// The first number of a name, that of the layer, and what stands before it.
struct Layer {
  std::string_view prefix;
  int64_t number = 0;
};

std::optional<Layer> LayerOf(std::string_view name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    if (const auto number = ParseIndex(name.substr(begin, end - begin)))
      return Layer{name.substr(0, begin), *number};
    begin = end + 1;
  }
  return std::nullopt;
}

Result<bool> IsIgnored(const std::string& name, const std::vector<std::string>& ignore) {
  for (const std::string& expression : ignore) {
    RESHARD_ASSIGN(const Regex regex, Regex::Compile(expression));
    RESHARD_ASSIGN(const bool found, regex.Search(name));
    if (found) return true;
  }
  return false;
}

// A base of 4 layers and a language model of 2: layers 2 and 3 of the base belong to neither.
Result<> CheckLeftOver(const std::vector<std::string>& names, const ConvertRequest& request) {
  if (names.empty()) return {};
  RESHARD_ASSIGN(const ModelConfig config, ReadModelConfig(request.llm_from));
  const auto layers = LayersOf(config);
  if (!layers) return {};
  const std::string* first = nullptr;
  std::set<int64_t> numbers;
  for (const std::string& name : names) {
    const auto layer = LayerOf(name);
    if (!layer || layer->number < *layers) continue;
    RESHARD_ASSIGN(const bool ignored, IsIgnored(name, request.ignore));
    if (ignored) continue;
    if (!first) first = &name;
    numbers.insert(layer->number);
  }
  if (!first) return {};
  return std::unexpected(
      Error{.kind = ErrorKind::kMapping,
            .file = config.file(),
            .tensor = *first,
            .found = fmt::format("{} does not replace this tensor, and says that the language "
                                 "model has {} layers",
                                 request.llm_from, *layers),
            .expected = "no old layer beside the new ones",
            .help = fmt::format(R"(leave the old layers out with --ignore '^{}({})\.')",
                                Regex::Escape(LayerOf(*first)->prefix), fmt::join(numbers, "|"))});
}

}  // namespace

Result<std::unique_ptr<Source>> TakeLanguageModel(const ConvertRequest& request,
                                                  std::unique_ptr<Source> base,
                                                  std::vector<Dropped>* replaced) {
  RESHARD_ASSIGN(auto language_model, OpenSource(request.llm_from, "hf"));
  RESHARD_ASSIGN(JoinedSources joined, JoinSources(std::move(base), std::move(language_model)));
  RESHARD_TRY(CheckLeftOver(joined.left_over, request));
  for (const Tensor& tensor : joined.replaced)
    replaced->push_back({tensor.name, static_cast<uint64_t>(tensor.byte_size()),
                         fmt::format("replaced by --llm-from {}", request.llm_from),
                         LeftOutBy::kLlmFrom});
  return std::move(joined.source);
}

}  // namespace reshard
