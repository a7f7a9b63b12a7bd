#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <numeric>

#include "base/checked_math.h"
#include "base/endian.h"
#include "base/json_writer.h"
#include "base/try.h"
#include "formats/safetensors/file_type.h"
#include "formats/safetensors/safetensors.h"

namespace reshard::safetensors {
namespace {

std::unexpected<Error> Fail(const std::string& tensor, std::string found, std::string expected,
                            std::string help) {
  return std::unexpected(Error{.kind = ErrorKind::kMapping,
                               .tensor = tensor,
                               .found = std::move(found),
                               .expected = std::move(expected),
                               .help = std::move(help)});
}

bool IsUtf8(const std::string& text) { return simdjson::validate_utf8(text.data(), text.size()); }

/// What a file says of one tensor.
struct Record {
  const FileType* type;
  Shape shape;  // as the file counts it
  uint64_t length;
};

Result<Record> MakeRecord(const TensorDecl& tensor) {
  const std::string shape = fmt::format("[{}]", fmt::join(tensor.shape, ", "));
  Record record{FindFileType(tensor.dtype), tensor.shape, 0};
  if (record.type == nullptr)
    return Fail(tensor.name,
                fmt::format("safetensors cannot hold elements of type {}", DTypeName(tensor.dtype)),
                "a type that the format names",
                "drop it with --ignore '<regex>' or write --weights bin");
  const auto numel = CheckedNumel(tensor.shape);
  auto length = numel ? CheckedMul(*numel, ItemSize(tensor.dtype)) : std::nullopt;
  if (record.type->per_unit > 1 && length) {
    auto last = tensor.shape.empty() ? std::nullopt
                                     : CheckedMul(tensor.shape.back(), record.type->per_unit);
    if (!last) length = std::nullopt;
    if (last) record.shape.back() = *last;
  }
  if (!length)
    return Fail(tensor.name, fmt::format("shape {} of {}", shape, DTypeName(tensor.dtype)),
                "a shape whose size in bytes fits 63 bits; at least one dimension for packed types",
                "check the shape in the source");
  record.length = static_cast<uint64_t>(*length);
  return record;
}

/// The order of tensors in the file, and what it says of each (by position in `tensors`).
struct Records {
  std::vector<size_t> order;
  std::vector<Record> records;
};

Result<Records> MakeRecords(std::span<const TensorDecl> tensors) {
  Records out;
  out.records.reserve(tensors.size());
  for (const TensorDecl& tensor : tensors) {
    if (tensor.name == kMetadataKey || !IsUtf8(tensor.name))
      return Fail(tensor.name, "a name that a safetensors file cannot give to a tensor",
                  fmt::format("UTF-8 text other than {}", kMetadataKey), "rename the tensor");
    RESHARD_ASSIGN(Record record, MakeRecord(tensor));
    out.records.push_back(std::move(record));
  }
  out.order.resize(tensors.size());
  std::iota(out.order.begin(), out.order.end(), size_t{0});
  std::ranges::sort(out.order, {}, [&](size_t i) { return std::string_view(tensors[i].name); });
  const auto twice = std::ranges::adjacent_find(
      out.order, {}, [&](size_t i) { return std::string_view(tensors[i].name); });
  if (twice != out.order.end())
    return Fail(tensors[*twice].name, "two tensors of one file have this name", "unique names",
                "check the recipe's rules that make this name");
  std::ranges::stable_sort(out.order, std::greater{},
                           [&](size_t i) { return out.records[i].type->ordinal; });
  return out;
}

void WriteRecord(const Record& record, uint64_t begin, JsonWriter* json) {
  json->BeginObject();
  json->Member("dtype", record.type->name);
  json->Key("shape");
  json->BeginArray();
  for (int64_t dim : record.shape) json->Value(dim);
  json->EndArray();
  json->Key("data_offsets");
  json->BeginArray();
  json->Value(begin);
  json->Value(begin + record.length);
  json->EndArray();
  json->EndObject();
}

Result<> WriteMetadata(const Metadata& metadata, JsonWriter* json) {
  if (metadata.empty()) return {};
  json->Key(kMetadataKey);
  json->BeginObject();
  for (const auto& [key, value] : metadata) {
    if (!IsUtf8(key) || !IsUtf8(value))
      return Fail("",
                  fmt::format("metadata that is not UTF-8, under a key of {} bytes", key.size()),
                  "UTF-8 text", "leave this entry out");
    json->Member(key, value);
  }
  json->EndObject();
  return {};
}

/// The file's first bytes for this JSON.
Result<std::string> Pad(std::string json, size_t tensors) {
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > kMaxJsonBytes)
    return Fail("", fmt::format("a header of {} bytes for {} tensors", json.size(), tensors),
                fmt::format("at most {} bytes, the limit of the format", kMaxJsonBytes),
                "write more, smaller files with --shard-size");
  std::string header;
  AppendLittle(uint64_t{json.size()}, &header);
  return header += json;
}

}  // namespace

Result<FileLayout> EncodeHeader(std::span<const TensorDecl> tensors, const Metadata& metadata) {
  RESHARD_ASSIGN(const Records records, MakeRecords(tensors));
  FileLayout layout;
  layout.slots.resize(tensors.size());
  JsonWriter json;
  json.BeginObject();
  RESHARD_TRY(WriteMetadata(metadata, &json));
  uint64_t end = 0;  // relative to the first byte of data
  for (size_t i : records.order) {
    const Record& record = records.records[i];
    json.Key(tensors[i].name);
    WriteRecord(record, end, &json);
    layout.slots[i] = end;
    end += record.length;
    // Half the range is left, so that neither this sum nor the header's size can overflow it.
    if (end > uint64_t{1} << 63)
      return Fail(tensors[i].name, "the tensors of one file exceed 2^63 bytes", "a smaller file",
                  "write more files with --shard-size");
  }
  json.EndObject();
  RESHARD_ASSIGN(std::string header, Pad(json.Take(), tensors.size()));
  for (uint64_t& slot : layout.slots) slot += header.size();
  layout.size = header.size() + end;
  layout.literals.push_back({.offset = 0, .bytes = std::move(header)});
  return layout;
}

}  // namespace reshard::safetensors
