#include <algorithm>
#include <initializer_list>

#include <fmt/format.h>
#include <simdjson.h>

#include "base/json_memory.h"
#include "base/json_writer.h"
#include "base/try.h"
#include "reshard/convert.h"

namespace reshard {
namespace {

constexpr uint64_t kPlanVersion = 1;

void WriteSummary(const PlanSummary& summary, JsonWriter* json) {
  json->BeginObject();
  json->Member("source_kind", summary.source_kind);
  json->Member("recipe", summary.recipe);
  json->Member("recipe_why", summary.recipe_why);
  json->Member("assets_from", summary.assets_from);
  json->Member("tensors", summary.tensors);
  json->Member("casts", summary.casts);
  json->Member("assembled", summary.assembled);
  json->Member("bytes_read", summary.bytes_read);
  json->Member("bytes_written", summary.bytes_written);
  json->Member("objects", summary.objects);
  json->Member("dropped_tensors", summary.dropped_tensors);
  json->Member("dropped_parts", summary.dropped_parts);
  json->Member("dropped_objects", summary.dropped_objects);
  json->Member("left_out", summary.left_out);
  json->Member("kept_types", summary.kept_types);
  json->EndObject();
}

void WriteRequest(const ConvertRequest& request, JsonWriter* json) {
  json->BeginObject();
  json->Member("source", request.source);
  json->Member("destination", request.destination);
  json->Member("to", TargetText(request));
  json->Member("from", SourceKindText(request));
  json->Member("recipe", request.recipe);
  json->Member("from_recipe", request.from_recipe);
  json->Member("iteration", IterationText(request.iteration));
  json->Member("pad_vocab_to", VocabPaddingText(request.vocab_padding));
  json->Member("like", request.like);
  json->Member("hub_form", request.hub_form);
  json->Member("llm_from", request.llm_from);
  json->Member("only", request.only);
  json->Member("packing", request.packing == Packing::kNatural ? "natural" : "lexicographic");
  json->Member("dtype", request.dtype ? DTypeName(*request.dtype) : "keep");
  json->Key("dtype_for");
  json->BeginArray();
  for (const auto& [expression, dtype] : request.dtype_for) {
    json->BeginArray();
    json->Value(expression);
    json->Value(DTypeName(dtype));
    json->EndArray();
  }
  json->EndArray();
  json->Member("dequantize", request.dequantize.has_value());
  json->Member("shard_size", request.shard_size);
  json->Member("weights", request.weights == Weights::kSafetensors ? "safetensors" : "bin");
  json->Member("assets_from", request.assets_from);
  json->Member("ignore", request.ignore);
  json->EndObject();
}

void WriteDropped(const Dropped& drop, JsonWriter* json) {
  json->BeginObject();
  json->Member("name", drop.name);
  json->Member("size", drop.byte_size);
  json->Member("why", drop.why);
  json->Member("by", LeftOutName(drop.by));
  json->EndObject();
}

// Members of the stored request, read by name. What is missing or of another type reads as a value
// that is empty, never as one that is not there; the first such member shows in `fault`.
class RequestReader {
 public:
  explicit RequestReader(simdjson::dom::element element) : element_(element) {}

  std::string Text(const char* key) {
    std::string_view value;
    // A file's name ends for the system where a byte 0 stands.
    if (element_[key].get(value) || value.contains('\0')) Fault(key);
    return std::string(value);
  }
  // Which of `names` the member is.
  size_t Choice(const char* key, std::initializer_list<std::string_view> names) {
    const std::string value = Text(key);
    const auto at = std::ranges::find(names, value);
    if (at == names.end()) Fault(key);
    return static_cast<size_t>(at - names.begin());
  }
  bool Flag(const char* key) {
    bool value = false;
    if (element_[key].get(value)) Fault(key);
    return value;
  }
  uint64_t Number(const char* key) {
    uint64_t value = 0;
    if (element_[key].get(value) || value == 0) Fault(key);
    return value;
  }
  // A list each of whose items is a text.
  std::vector<std::string> Texts(const char* key) {
    std::vector<std::string> texts;
    for (const simdjson::dom::element item : Items(key)) {
      std::string_view text;
      if (item.get(text)) Fault(key);
      texts.emplace_back(text);
    }
    return texts;
  }
  // A list each of whose items is a list of two texts.
  std::vector<std::pair<std::string, std::string>> TextPairs(const char* key) {
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const simdjson::dom::element item : Items(key)) {
      std::string_view first, second;
      if (item.at(0).get(first) || item.at(1).get(second)) Fault(key);
      pairs.emplace_back(first, second);
    }
    return pairs;
  }
  std::optional<DType> Type(std::string_view name, const char* key) {
    const auto dtype = ParseDType(name);
    if (!dtype || !IsCastable(*dtype)) Fault(key);
    return dtype;
  }
  void Fault(const char* key) {
    if (fault_.empty()) fault_ = key;
  }
  const std::string& fault() const { return fault_; }

 private:
  // simdjson's array must not be iterated where there is none.
  std::vector<simdjson::dom::element> Items(const char* key) {
    simdjson::dom::array list;
    if (!element_[key].get(list)) return {list.begin(), list.end()};
    Fault(key);
    return {};
  }

  simdjson::dom::element element_;
  std::string fault_;
};

}  // namespace

std::string PlanJson(const ConvertRequest& request, const PlanDescription& plan) {
  JsonWriter json({.indent = 1});
  json.BeginObject();
  json.Member("reshard_plan", kPlanVersion);
  json.Member("plan_id", plan.summary.plan_id);
  json.Key("request");
  WriteRequest(request, &json);
  json.Key("summary");
  WriteSummary(plan.summary, &json);
  json.Key("files");
  json.BeginArray();
  for (const PlannedFile& file : plan.files) {
    json.BeginObject();
    json.Member("path", file.path);
    json.Member("size", file.byte_size);
    json.Key("tensors");
    json.BeginArray();
    for (const PlannedTensor& tensor : file.tensors) {
      json.BeginObject();
      json.Member("name", tensor.name);
      json.Member("dtype", tensor.dtype);
      json.Key("shape");
      json.BeginArray();
      for (int64_t extent : tensor.shape) json.Value(extent);
      json.EndArray();
      json.Member("offset", tensor.offset);
      json.Member("size", tensor.byte_size);
      json.Member("view", tensor.view);
      json.EndObject();
    }
    json.EndArray();
    json.EndObject();
  }
  json.EndArray();
  json.Key("dropped");
  json.BeginArray();
  for (const auto* list : {&plan.dropped, &plan.dropped_parts})
    for (const Dropped& drop : *list) WriteDropped(drop, &json);
  json.EndArray();
  json.Member("warnings", plan.warnings);
  json.Member("left_behind", plan.left_behind);
  json.Member("missing_assets", plan.missing_assets);
  json.EndObject();
  return json.Take() + "\n";
}

Result<StoredPlan> ParsePlanJson(const std::string& text, const std::string& file) {
  const auto fault = [&](std::string found) {
    return std::unexpected(Error{.kind = ErrorKind::kUsage,
                                 .file = file,
                                 .found = std::move(found),
                                 .expected = "a plan that reshard plan -o wrote",
                                 .help = "make the plan again"});
  };
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  uint64_t version = 0;
  std::string_view plan_id;
  simdjson::dom::element stored;
  if (JsonFault(parser.parse(text).get(document))) return fault("the plan is no JSON");
  if (document["reshard_plan"].get(version) || version != kPlanVersion ||
      document["plan_id"].get(plan_id) || document["request"].get(stored))
    return fault("the plan is of another version, or damaged");

  RequestReader reader(stored);
  ConvertRequest request{.source = reader.Text("source"),
                         .destination = reader.Text("destination"),
                         .recipe = reader.Text("recipe"),
                         .from_recipe = reader.Text("from_recipe"),
                         .like = reader.Text("like"),
                         .hub_form = reader.Text("hub_form"),
                         .llm_from = reader.Text("llm_from"),
                         .only = reader.Text("only")};
  if (!ParseTarget(reader.Text("to"), &request)) reader.Fault("to");
  if (!ParseSourceKind(reader.Text("from"), &request)) reader.Fault("from");
  if (const auto iteration = ParseIteration(reader.Text("iteration")))
    request.iteration = *iteration;
  else
    reader.Fault("iteration");
  if (const auto padding = ParseVocabPadding(reader.Text("pad_vocab_to")))
    request.vocab_padding = *padding;
  else
    reader.Fault("pad_vocab_to");
  request.packing = reader.Choice("packing", {"natural", "lexicographic"}) == 1
                        ? Packing::kLexicographic
                        : Packing::kNatural;
  if (const std::string dtype = reader.Text("dtype"); dtype != "keep")
    request.dtype = reader.Type(dtype, "dtype");
  for (auto& [expression, name] : reader.TextPairs("dtype_for"))
    if (const auto dtype = reader.Type(name, "dtype_for"))
      request.dtype_for.emplace_back(std::move(expression), *dtype);
  if (reader.Flag("dequantize")) request.dequantize = DType::kBFloat16;
  request.shard_size = reader.Number("shard_size");
  request.weights = reader.Choice("weights", {"safetensors", "bin"}) == 1
                        ? Weights::kBin
                        : Weights::kSafetensors;
  request.assets_from = reader.Text("assets_from");
  request.ignore = reader.Texts("ignore");
  if (!reader.fault().empty())
    return fault(fmt::format("'{}' of the stored request is missing or damaged", reader.fault()));
  return StoredPlan{std::move(request), std::string(plan_id)};
}

}  // namespace reshard
