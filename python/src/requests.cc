#include "requests.h"

#include <nanobind/stl/string.h>

#include <functional>
#include <map>
#include <optional>

#include "dtypes.h"
#include "reshard/text.h"

namespace nb = nanobind;

namespace reshard::python {
namespace {

std::unexpected<Error> Usage(std::string found, std::string expected) {
  return std::unexpected(Error{
      .kind = ErrorKind::kUsage, .found = std::move(found), .expected = std::move(expected)});
}

using Setter = std::function<Result<>(const std::string&, ConvertRequest*)>;

Setter Text(std::string ConvertRequest::* field) {
  return [field](const std::string& text, ConvertRequest* request) -> Result<> {
    request->*field = text;
    return {};
  };
}

template <typename T, typename Parse>
Setter Parsed(T ConvertRequest::* field, const Parse& parse) {
  return [field, parse](const std::string& text, ConvertRequest* request) -> Result<> {
    auto value = parse(text);
    if (!value) return std::unexpected(std::move(value).error());
    request->*field = *std::move(value);
    return {};
  };
}

const std::map<std::string, Setter>& Setters() {
  static const std::map<std::string, Setter> setters = {
      {"source", Text(&ConvertRequest::source)},
      {"destination", Text(&ConvertRequest::destination)},
      {"recipe", Text(&ConvertRequest::recipe)},
      {"from-recipe", Text(&ConvertRequest::from_recipe)},
      {"like", Text(&ConvertRequest::like)},
      {"assets-from", Text(&ConvertRequest::assets_from)},
      {"config-json", Text(&ConvertRequest::config_json)},
      {"hub-form", Text(&ConvertRequest::hub_form)},
      {"llm-from", Text(&ConvertRequest::llm_from)},
      {"only", Text(&ConvertRequest::only)},
      {"to", [](const std::string& text, ConvertRequest* r) { return ParseTarget(text, r); }},
      {"from", [](const std::string& text, ConvertRequest* r) { return ParseSourceKind(text, r); }},
      {"from-layout",
       [](const std::string& text, ConvertRequest* r) {
         return ParseLayoutText(text, &r->from_layout);
       }},
      {"dtype", Parsed(&ConvertRequest::dtype,
                       [](const std::string& text) -> Result<std::optional<DType>> {
                         if (text == "keep") return std::nullopt;
                         return ParseCastType(text);
                       })},
      {"dtype-for",
       [](const std::string& text, ConvertRequest* r) -> Result<> {
         auto cast = ParseCastRule(text);
         if (!cast) return std::unexpected(std::move(cast).error());
         r->dtype_for.push_back(*std::move(cast));
         return {};
       }},
      {"dequantize", Parsed(&ConvertRequest::dequantize,
                            [](const std::string& text) -> Result<std::optional<DType>> {
                              if (text == "True") return DType::kBFloat16;
                              if (text == "False") return std::nullopt;
                              return Usage("dequantize '" + text + "'", "True or False");
                            })},
      {"shard-size", Parsed(&ConvertRequest::shard_size, ParseByteSize)},
      {"iteration", Parsed(&ConvertRequest::iteration, ParseIteration)},
      {"pad-vocab-to", Parsed(&ConvertRequest::vocab_padding, ParseVocabPadding)},
      {"packing", Parsed(&ConvertRequest::packing,
                         [](const std::string& text) -> Result<Packing> {
                           if (text == "natural") return Packing::kNatural;
                           if (text == "lexicographic") return Packing::kLexicographic;
                           return Usage("packing '" + text + "'", "natural or lexicographic");
                         })},
      {"weights", Parsed(&ConvertRequest::weights,
                         [](const std::string& text) -> Result<Weights> {
                           if (text == "safetensors") return Weights::kSafetensors;
                           if (text == "bin") return Weights::kBin;
                           return Usage("weights '" + text + "'", "safetensors or bin");
                         })},
      {"ignore",
       [](const std::string& text, ConvertRequest* r) -> Result<> {
         r->ignore.push_back(text);
         return {};
       }},
  };
  return setters;
}

}  // namespace

Result<ConvertRequest> ToRequest(const RequestFields& fields) {
  ConvertRequest request;
  for (const auto& [name, text] : fields) {
    const auto setter = Setters().find(name);
    // What is no field of a request is one of the target's layout: tp, pp, llm-pp-layers, ...
    auto set = setter != Setters().end() ? setter->second(text, &request)
                                         : ParseLayoutText(name + "=" + text, &request.layout);
    if (!set) return std::unexpected(std::move(set).error());
  }
  auto used = CheckLayoutIsUsed(request);
  if (!used) return std::unexpected(std::move(used).error());
  return request;
}

nb::dict SummaryDict(const PlanSummary& summary) {
  nb::dict dict;
  dict["plan_id"] = summary.plan_id;
  dict["source_kind"] = summary.source_kind;
  dict["recipe"] = summary.recipe;
  dict["recipe_why"] = summary.recipe_why;
  dict["assets_from"] = summary.assets_from;
  dict["tensors"] = summary.tensors;
  dict["casts"] = summary.casts;
  dict["assembled"] = summary.assembled;
  dict["checks"] = summary.checks;
  dict["bytes_read"] = summary.bytes_read;
  dict["bytes_written"] = summary.bytes_written;
  dict["objects"] = summary.objects;
  dict["dropped_tensors"] = summary.dropped_tensors;
  dict["dropped_parts"] = summary.dropped_parts;
  dict["dropped_objects"] = summary.dropped_objects;
  return dict;
}

nb::dict ConvertDict(const ConvertSummary& summary) {
  nb::dict dict;
  dict["plan"] = SummaryDict(summary.plan);
  dict["bytes_written"] = summary.bytes_written;
  dict["bytes_resumed"] = summary.bytes_resumed;
  dict["files"] = summary.files;
  dict["seconds"] = summary.seconds;
  nb::dict overflows;
  for (const auto& [name, count] : summary.overflows) overflows[name.c_str()] = count;
  dict["overflows"] = overflows;
  dict["left_behind"] = ToTuple(summary.left_behind);
  dict["missing_assets"] = ToTuple(summary.missing_assets);
  return dict;
}

}  // namespace reshard::python
