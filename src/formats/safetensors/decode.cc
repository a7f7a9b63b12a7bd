#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/checked_math.h"
#include "base/endian.h"
#include "base/json_memory.h"
#include "base/try.h"
#include "formats/safetensors/file_type.h"
#include "formats/safetensors/safetensors.h"

namespace reshard::safetensors {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr uint64_t kPrefixBytes = 8;
// Containers within each other; the reference library refuses the next one (serde_json's limit).
constexpr int kMaxDepth = 127;
constexpr std::string_view kDamaged =
    "the file is damaged: copy it again from where it was written";

/// One header on its way from text to structs. simdjson's front end checks only what is asked for,
/// so every value of the text is visited, those without a meaning to us included.
class Decoder {
 public:
  Decoder(const ByteSource& file, uint64_t offset) : file_(file), offset_(offset) {}

  Result<Header> Run() {
    RESHARD_TRY(ReadText());
    RESHARD_TRY(DecodeRoot());
    RESHARD_TRY(CheckNames());
    RESHARD_TRY(CheckExtents());
    return std::move(header_);
  }

 private:
  Result<> ReadText();
  Result<> DecodeRoot();
  Result<> DecodeMetadata(ondemand::value value);
  Result<> DecodeTensor(std::string_view name, ondemand::value value);
  Result<> FinishTensor(TensorInfo tensor, const FileType& type, std::span<const uint64_t> offsets);
  Result<> CheckNames();
  Result<> CheckExtents();
  Result<> Skip(ondemand::value value, int depth);
  Result<> SkipObject(ondemand::value value, int depth);
  Result<> SkipArray(ondemand::value value, int depth);
  Result<std::string_view> Text(simdjson::simdjson_result<std::string_view> text);
  Result<std::vector<uint64_t>> Numbers(ondemand::value value);
  template <typename T>
  Result<> Once(std::optional<T>* slot, std::string_view field, Result<T> value);

  std::unexpected<Error> Fail(std::string found, std::string expected);
  std::unexpected<Error> NotJson(simdjson::error_code code);

  const ByteSource& file_;
  const uint64_t offset_;
  std::string text_;  // with simdjson's padding
  ondemand::parser parser_;
  ondemand::document document_;
  bool has_metadata_ = false;
  std::string tensor_;  // the one at hand, for errors
  Header header_;
};

std::unexpected<Error> Decoder::Fail(std::string found, std::string expected) {
  return std::unexpected(Error{.kind = ErrorKind::kSource,
                               .file = file_.name(),
                               .offset = file_.origin() + offset_,
                               .tensor = tensor_,
                               .found = std::move(found),
                               .expected = std::move(expected),
                               .help = std::string(kDamaged)});
}

std::unexpected<Error> Decoder::NotJson(simdjson::error_code code) {
  (void)JsonFault(code);
  auto failure = Fail(fmt::format("the header's JSON: {}", simdjson::error_message(code)),
                      "a JSON object of name: {dtype, shape, data_offsets}");
  uint64_t position = 0;
  const char* at = nullptr;
  if (document_.is_alive() && !document_.current_location().get(at))
    position = static_cast<uint64_t>(at - text_.data());
  *failure.error().offset += kPrefixBytes + position;
  return failure;
}

Result<> Decoder::ReadText() {
  const uint64_t size = file_.size() - std::min(offset_, file_.size());
  if (size < kPrefixBytes)
    return Fail(fmt::format("{} bytes", size), "a safetensors header of at least 8 bytes");
  std::array<std::byte, kPrefixBytes> prefix;
  RESHARD_TRY(file_.ReadAt(offset_, prefix));
  const auto length = LoadLittle<uint64_t>(prefix.data());
  if (length > kMaxJsonBytes)
    return Fail(fmt::format("a header length of {} bytes", length),
                fmt::format("at most {}", kMaxJsonBytes));
  if (length > size - kPrefixBytes)
    return Fail(fmt::format("a header length of {} where the file has {} more bytes", length,
                            size - kPrefixBytes),
                "a header that lies within the file");
  text_.assign(length + simdjson::SIMDJSON_PADDING, ' ');
  header_.header_bytes = kPrefixBytes + length;
  return file_.ReadAt(offset_ + kPrefixBytes,
                      std::as_writable_bytes(std::span(text_.data(), length)));
}

Result<> Decoder::DecodeRoot() {
  const simdjson::padded_string_view text(text_.data(), header_.header_bytes - kPrefixBytes,
                                          text_.size());
  if (auto code = parser_.iterate(text).get(document_)) return NotJson(code);
  ondemand::object root;
  if (auto code = document_.get_object().get(root)) return NotJson(code);
  for (auto item : root) {
    ondemand::field field;
    if (auto code = std::move(item).get(field)) return NotJson(code);
    tensor_.clear();
    RESHARD_ASSIGN(const std::string_view name, Text(field.unescaped_key()));
    tensor_ = name;
    if (name == kMetadataKey) {
      RESHARD_TRY(DecodeMetadata(field.value()));
    } else {
      RESHARD_TRY(DecodeTensor(name, field.value()));
    }
  }
  tensor_.clear();
  const char* rest = nullptr;
  if (document_.current_location().get(rest) != simdjson::OUT_OF_BOUNDS)
    return NotJson(simdjson::TRAILING_CONTENT);
  return {};
}

Result<> Decoder::DecodeMetadata(ondemand::value value) {
  if (std::exchange(has_metadata_, true)) return Fail("__metadata__ stands twice", "it once");
  bool is_null = false;
  if (auto code = value.is_null().get(is_null)) return NotJson(code);
  if (is_null) return {};
  ondemand::object entries;
  if (auto code = value.get_object().get(entries)) return NotJson(code);
  for (auto item : entries) {
    ondemand::field field;
    if (auto code = std::move(item).get(field)) return NotJson(code);
    RESHARD_ASSIGN(const std::string_view key, Text(field.unescaped_key()));
    RESHARD_ASSIGN(const std::string_view entry, Text(field.value().get_string()));
    if (!header_.metadata.emplace(key, entry).second)
      return Fail(fmt::format("the metadata key \"{}\" stands twice", key), "each key once");
  }
  return {};
}

template <typename T>
Result<> Decoder::Once(std::optional<T>* slot, std::string_view field, Result<T> value) {
  if (!value) return std::unexpected(std::move(value).error());
  if (*slot) return Fail(fmt::format("the field {} stands twice", field), "each field once");
  *slot = std::move(*value);
  return {};
}

Result<> Decoder::DecodeTensor(std::string_view name, ondemand::value value) {
  std::optional<std::string_view> type_name;
  std::optional<std::vector<uint64_t>> shape;
  std::optional<std::vector<uint64_t>> offsets;
  ondemand::object fields;
  if (auto code = value.get_object().get(fields)) return NotJson(code);
  for (auto item : fields) {
    ondemand::field field;
    if (auto code = std::move(item).get(field)) return NotJson(code);
    RESHARD_ASSIGN(const std::string_view key, Text(field.unescaped_key()));
    if (key == "dtype") {
      RESHARD_TRY(Once(&type_name, key, Text(field.value().get_string())));
    } else if (key == "shape") {
      RESHARD_TRY(Once(&shape, key, Numbers(field.value())));
    } else if (key == "data_offsets") {
      RESHARD_TRY(Once(&offsets, key, Numbers(field.value())));
    } else {
      RESHARD_TRY(Skip(field.value(), 3));
    }
  }
  if (!type_name || !shape || !offsets)
    return Fail("a record without dtype, shape or data_offsets", "all three");
  const FileType* type = FindFileType(*type_name);
  if (type == nullptr)
    return Fail(fmt::format("the element type \"{}\"", *type_name), "a type of safetensors 0.8");
  TensorInfo tensor{.name = std::string(name), .dtype = type->dtype};
  for (uint64_t dim : *shape) {
    if (!std::in_range<int64_t>(dim))
      return Fail(fmt::format("a dimension of {}", dim), "dimensions that fit 63 bits");
    tensor.shape.push_back(static_cast<int64_t>(dim));
  }
  return FinishTensor(std::move(tensor), *type, *offsets);
}

Result<> Decoder::FinishTensor(TensorInfo tensor, const FileType& type,
                               std::span<const uint64_t> offsets) {
  if (offsets.size() != 2 || offsets[1] < offsets[0])
    return Fail(fmt::format("data_offsets [{}]", fmt::join(offsets, ", ")),
                "two numbers, begin and end");
  const auto numel = CheckedNumel(tensor.shape);
  const auto bits =
      numel ? CheckedMul(static_cast<uint64_t>(*numel), uint64_t{type.bits}) : std::nullopt;
  if (!bits || *bits % 8 != 0 || *bits / 8 != offsets[1] - offsets[0])
    return Fail(fmt::format("{} bytes for shape [{}] of {}", offsets[1] - offsets[0],
                            fmt::join(tensor.shape, ", "), type.name),
                bits && *bits % 8 == 0 ? fmt::format("{} bytes", *bits / 8)
                                       : "a shape whose size is a number of bytes below 2^61");
  if (type.per_unit > 1) {
    if (tensor.shape.back() % type.per_unit != 0)
      return Fail(fmt::format("a last dimension of {} for {}", tensor.shape.back(), type.name),
                  fmt::format("a multiple of {}: whole bytes in each row", type.per_unit));
    tensor.shape.back() /= type.per_unit;
  }
  tensor.begin = offsets[0];  // made absolute by CheckExtents
  tensor.length = offsets[1] - offsets[0];
  header_.tensors.push_back(std::move(tensor));
  return {};
}

Result<> Decoder::CheckNames() {
  std::vector<std::string_view> names;
  names.reserve(header_.tensors.size());
  for (const TensorInfo& tensor : header_.tensors) names.push_back(tensor.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice == names.end()) return {};
  tensor_ = *twice;
  return Fail("the name stands twice in the header", "each name once");
}

Result<> Decoder::CheckExtents() {
  // Empty tensors lie where the next one starts, so length decides between equal offsets.
  std::ranges::stable_sort(header_.tensors, {},
                           [](const TensorInfo& t) { return std::pair(t.begin, t.length); });
  const uint64_t data_bytes = file_.size() - offset_ - header_.header_bytes;
  uint64_t end = 0;
  for (TensorInfo& tensor : header_.tensors) {
    tensor_ = tensor.name;
    if (tensor.begin != end)
      return Fail(fmt::format("its bytes begin at {} of the data, {}", tensor.begin,
                              tensor.begin < end ? "within another tensor" : "after a hole"),
                  fmt::format("{}, where the tensor before it ends", end));
    if (!InRange(tensor.begin, tensor.length, data_bytes))
      return Fail(fmt::format("its bytes end at {} of the data", end + tensor.length),
                  fmt::format("at most {}, where the file ends", data_bytes));
    end += tensor.length;
    tensor.begin += offset_ + header_.header_bytes;
  }
  tensor_.clear();
  if (end != data_bytes)
    return Fail(fmt::format("{} bytes after the last tensor", data_bytes - end), "none");
  return {};
}

Result<std::string_view> Decoder::Text(simdjson::simdjson_result<std::string_view> text) {
  std::string_view out;
  if (auto code = std::move(text).get(out)) return NotJson(code);
  return out;
}

Result<std::vector<uint64_t>> Decoder::Numbers(ondemand::value value) {
  std::vector<uint64_t> numbers;
  ondemand::array array;
  if (auto code = value.get_array().get(array)) return NotJson(code);
  for (auto item : array) {
    uint64_t number = 0;
    if (auto code = item.get_uint64().get(number)) return NotJson(code);
    numbers.push_back(number);
  }
  return numbers;
}

Result<> Decoder::Skip(ondemand::value value, int depth) {
  ondemand::json_type type;
  if (auto code = value.type().get(type)) return NotJson(code);
  const bool nested = type == ondemand::json_type::array || type == ondemand::json_type::object;
  if (nested && depth > kMaxDepth) return NotJson(simdjson::DEPTH_ERROR);
  switch (type) {
    case ondemand::json_type::object:
      return SkipObject(value, depth);
    case ondemand::json_type::array:
      return SkipArray(value, depth);
    case ondemand::json_type::string:
      RESHARD_TRY(Text(value.get_string()));
      return {};
    case ondemand::json_type::number:
      if (auto code = value.get_number().error()) return NotJson(code);
      return {};
    case ondemand::json_type::boolean:
      if (auto code = value.get_bool().error()) return NotJson(code);
      return {};
    case ondemand::json_type::null: {
      bool is_null = false;
      if (auto code = value.is_null().get(is_null)) return NotJson(code);
      if (!is_null) return NotJson(simdjson::N_ATOM_ERROR);
      return {};
    }
  }
  return NotJson(simdjson::TAPE_ERROR);
}

Result<> Decoder::SkipArray(ondemand::value value, int depth) {
  ondemand::array array;
  if (auto code = value.get_array().get(array)) return NotJson(code);
  for (auto item : array) {
    ondemand::value element;
    if (auto code = std::move(item).get(element)) return NotJson(code);
    RESHARD_TRY(Skip(element, depth + 1));
  }
  return {};
}

Result<> Decoder::SkipObject(ondemand::value value, int depth) {
  ondemand::object object;
  if (auto code = value.get_object().get(object)) return NotJson(code);
  for (auto item : object) {
    ondemand::field field;
    if (auto code = std::move(item).get(field)) return NotJson(code);
    RESHARD_TRY(Text(field.unescaped_key()));
    RESHARD_TRY(Skip(field.value(), depth + 1));
  }
  return {};
}

}  // namespace

Result<Header> DecodeHeader(const ByteSource& file, uint64_t offset) {
  return Decoder(file, offset).Run();
}

}  // namespace reshard::safetensors
