#include "cli/json.h"

#include "base/json_writer.h"
#include "cli/totals.h"

namespace reshard::cli {
namespace {

constexpr uint64_t kSchemaVersion = 1;

void Begin(std::string_view type, JsonWriter* json) {
  json->BeginObject();
  json->Member("message_type", type);
  json->Member("schema_version", kSchemaVersion);
}

}  // namespace

std::string ProgressJson(const Progress& progress) {
  JsonWriter json;
  Begin("progress", &json);
  json.Member("bytes_done", progress.bytes_done);
  json.Member("bytes_total", progress.bytes_total);
  json.Member("bytes_resumed", progress.bytes_resumed);
  json.Member("files_done", progress.files_done);
  json.Member("files_total", progress.files_total);
  json.Member("seconds", progress.seconds);
  json.EndObject();
  return json.Take();
}

std::string WarningJson(std::string_view text) {
  JsonWriter json;
  Begin("warning", &json);
  json.Member("text", text);
  json.EndObject();
  return json.Take();
}

std::string ErrorJson(const Error& error) {
  JsonWriter json;
  Begin("error", &json);
  json.Member("kind", ErrorKindName(error.kind));
  json.Member("exit_code", ExitCode(error.kind));
  json.Member("file", error.file);
  json.Key("offset");
  if (error.offset)
    json.Value(*error.offset);
  else
    json.Value(nullptr);
  json.Member("tensor", error.tensor);
  json.Member("found", error.found);
  json.Member("expected", error.expected);
  json.Member("help", error.help);
  json.EndObject();
  return json.Take();
}

std::string SummaryJson(const ConvertSummary& summary) {
  JsonWriter json;
  Begin("summary", &json);
  json.Member("plan_id", summary.plan.plan_id);
  json.Member("source_kind", summary.plan.source_kind);
  json.Member("recipe", summary.plan.recipe);
  json.Member("recipe_why", summary.plan.recipe_why);
  json.Member("assets_from", summary.plan.assets_from);
  json.Member("tensors", summary.plan.tensors);
  json.Member("casts", summary.plan.casts);
  json.Member("objects", summary.plan.objects);
  json.Member("dropped_tensors", summary.plan.dropped_tensors);
  json.Member("dropped_parts", summary.plan.dropped_parts);
  json.Member("dropped_objects", summary.plan.dropped_objects);
  json.Member("left_out", summary.plan.left_out);
  json.Member("kept_types", summary.plan.kept_types);
  json.Member("files", summary.files);
  json.Member("bytes_read", summary.plan.bytes_read);
  json.Member("bytes_written", summary.bytes_written);
  json.Member("bytes_resumed", summary.bytes_resumed);
  json.Member("seconds", summary.seconds);
  json.Key("overflows");
  json.BeginArray();
  for (const auto& [tensor, count] : summary.overflows) {
    json.BeginObject();
    json.Member("tensor", tensor);
    json.Member("count", count);
    json.EndObject();
  }
  json.EndArray();
  json.Member("left_behind", summary.left_behind);
  json.Member("missing_assets", summary.missing_assets);
  json.EndObject();
  return json.Take();
}

std::string VerifyJson(const VerifyReport& report) {
  JsonWriter json;
  Begin("verify", &json);
  json.Member("ok", report.ok());
  json.Member("files", report.files);
  json.Member("bytes", report.bytes);
  for (const auto& [key, faults] :
       {std::pair("faults", &report.faults), std::pair("unlisted", &report.unlisted)}) {
    json.Key(key);
    json.BeginArray();
    for (const VerifyFault& fault : *faults) {
      json.BeginObject();
      json.Member("file", fault.file);
      json.Member("what", fault.what);
      json.EndObject();
    }
    json.EndArray();
  }
  json.EndObject();
  return json.Take();
}

std::string RecipeFitJson(const RecipeFit& fit) {
  JsonWriter json;
  Begin("recipe_fit", &json);
  json.Member("recipe", fit.recipe);
  json.Member("fits", fit.fits());
  json.Member("names", fit.hub ? "hub" : "here");
  json.Member("tensors", fit.tensors);
  json.Key("no_rule");
  json.BeginArray();
  for (const RecipeFit::NoRule& tensor : fit.no_rule) {
    json.BeginObject();
    json.Member("tensor", tensor.tensor);
    json.Member("nearest", tensor.nearest);
    json.EndObject();
  }
  json.EndArray();
  json.Key("misfits");
  json.BeginArray();
  for (const RecipeFit::Misfit& misfit : fit.misfits) {
    json.BeginObject();
    json.Member("tensor", misfit.tensor);
    json.Member("found", misfit.found);
    json.Member("expected", misfit.expected);
    json.EndObject();
  }
  json.EndArray();
  json.Member("unused_rules", fit.unused);
  json.Member("unknown_sizes", fit.unknown);
  json.EndObject();
  return json.Take();
}

std::string InspectJson(const Source& source, const std::vector<const Tensor*>& tensors,
                        bool with_tensors) {
  const Catalog& catalog = source.catalog();
  JsonWriter json({.indent = 1});
  Begin("inspect", &json);
  json.Member("kind", source.kind());
  json.Member("evidence", source.evidence());
  json.Member("root", source.root());
  const Totals totals = TotalsOf(tensors);
  json.Member("tensors", totals.tensors);
  json.Member("elements", totals.elements);
  json.Member("bytes", totals.bytes);
  json.Member("chunks", totals.chunks);
  json.Key("dtypes");
  json.BeginObject();
  for (const auto& [dtype, of] : totals.by_dtype) {
    json.Key(DTypeName(dtype));
    json.BeginObject();
    json.Member("tensors", of.tensors);
    json.Member("bytes", of.bytes);
    json.EndObject();
  }
  json.EndObject();
  json.Key("files");
  json.BeginArray();
  for (const SourceFile& file : catalog.files()) {
    json.BeginObject();
    json.Member("path", file.path);
    json.Member("size", file.size);
    json.EndObject();
  }
  json.EndArray();
  if (with_tensors) {
    json.Key("tensor_list");
    json.BeginArray();
    for (const Tensor* tensor : tensors) {
      json.BeginObject();
      json.Member("name", tensor->name);
      json.Member("dtype", DTypeName(tensor->dtype));
      json.Key("shape");
      json.BeginArray();
      for (int64_t extent : tensor->shape) json.Value(extent);
      json.EndArray();
      json.Member("bytes", tensor->byte_size());
      json.Member("chunks", tensor->chunk_count);
      json.EndObject();
    }
    json.EndArray();
  }
  json.Key("unreadable");
  json.BeginArray();
  for (const UnreadableTensor& tensor : catalog.unreadable()) {
    json.BeginObject();
    json.Member("name", tensor.name);
    json.Member("what", tensor.what);
    json.EndObject();
  }
  json.EndArray();
  json.Key("objects");
  json.BeginArray();
  for (const Object& object : catalog.objects()) {
    json.BeginObject();
    json.Member("name", object.name);
    json.Member("summary", object.summary);
    json.Member("bytes", object.byte_size);
    json.EndObject();
  }
  json.EndArray();
  json.Member("notes", source.notes());
  json.EndObject();
  return json.Take();
}

}  // namespace reshard::cli
