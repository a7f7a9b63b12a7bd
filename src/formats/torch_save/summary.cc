#include "formats/torch_save/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string_view>

#include "formats/torch_save/tensor.h"

namespace reshard::torch_save {
namespace {

using pickle::Kind;
using pickle::Value;

constexpr size_t kMaxText = 60;    // bytes of one piece of text
constexpr size_t kMaxWhole = 4;    // items of a sequence that is shown whole
constexpr size_t kFirstItems = 2;  // items that are shown of a longer one
constexpr int kMaxDepth = 2;

std::string Text(const Value& value, int depth);

// At most kMaxText bytes of `text`, with what a terminal would act on escaped.
std::string Clip(std::string_view text) {
  const bool cut = text.size() > kMaxText;
  if (cut) {
    size_t end = kMaxText;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    text = text.substr(0, end);
  }
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\x{:02x}", byte);
    else
      out += c;
  }
  return cut ? out + "..." : out;
}

// As Python's repr() has it: 1.0, 3e-05, nan.
std::string FloatText(double number) {
  if (!std::isfinite(number)) return std::isnan(number) ? "nan" : number > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", number);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string SequenceText(std::span<const Value> items, std::string_view brackets, int depth) {
  if (depth >= kMaxDepth && !items.empty())
    return fmt::format("{}{} items{}", brackets[0], items.size(), brackets[1]);
  const size_t shown = items.size() <= kMaxWhole ? items.size() : kFirstItems;
  std::string text(1, brackets[0]);
  for (size_t i = 0; i < shown; ++i) {
    if (i != 0) text += ", ";
    text += Text(items[i], depth + 1);
  }
  if (shown < items.size()) text += fmt::format(", ... {} items", items.size());
  return text + brackets[1];
}

std::string GlobalText(const Value& global) {
  return fmt::format("{}.{}", Clip(global.module()), Clip(global.name()));
}

// Protocol 2 has no bytes: a pickler writes text of as many characters, to be encoded.
std::optional<size_t> EncodedBytes(const Value& value) {
  const pickle::ObjectParts& parts = value.object();
  if (!value.IsObject("_codecs", "encode") || !parts.args.is(Kind::kTuple)) return std::nullopt;
  const auto args = parts.args.items();
  if (args.empty() || !args[0].is(Kind::kString)) return std::nullopt;
  return std::ranges::count_if(args[0].text(), [](char c) { return (c & 0xc0) != 0x80; });
}

std::string ObjectText(const Value& value, int depth) {
  if (const auto bytes = EncodedBytes(value)) return fmt::format("{} bytes", *bytes);
  if (const auto words = UnsupportedTensor(value)) return *words;
  if (IsTensor(value)) return "a tensor";
  const pickle::ObjectParts& parts = value.object();
  const std::string name =
      parts.callable.is(Kind::kGlobal) ? GlobalText(parts.callable) : "an object";
  if (parts.state.is(Kind::kDict))
    return fmt::format("{}({} fields)", name, parts.state.entries().size());
  if (parts.entries.is(Kind::kDict))
    return fmt::format("{}({} entries)", name, parts.entries.entries().size());
  if (parts.items.is(Kind::kList))
    return fmt::format("{}({} items)", name, parts.items.items().size());
  // An enum, a path, a size: a class and what it was made of.
  if (parts.state.is(Kind::kNone) && parts.args.is(Kind::kTuple) && depth < kMaxDepth)
    return name + SequenceText(parts.args.items(), "()", depth + 1);
  return name;
}

std::string Text(const Value& value, int depth) {
  switch (value.kind()) {
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return value.as_bool() ? "True" : "False";
    case Kind::kInt:
      return fmt::format("{}", value.as_int());
    case Kind::kFloat:
      return FloatText(value.as_float());
    case Kind::kString:
      return fmt::format("\"{}\"", Clip(value.text()));
    case Kind::kBytes:
      return fmt::format("{} bytes", value.text().size());
    case Kind::kTuple:
      return SequenceText(value.items(), "()", depth);
    case Kind::kList:
      return SequenceText(value.items(), "[]", depth);
    case Kind::kSet:
      return SequenceText(value.items(), "{}", depth);
    case Kind::kDict:
      return fmt::format("{{{} entries}}", value.entries().size());
    case Kind::kGlobal:
      return GlobalText(value);
    case Kind::kObject:
      return ObjectText(value, depth);
    case Kind::kPersistentId:
      return depth >= kMaxDepth ? "a persistent id"
                                : "the persistent id " + Text(value.persistent_id(), depth + 1);
    case Kind::kFolded:
      return "an object";
  }
  return "an object";
}

}  // namespace

std::string Summarize(const Value& value) { return Text(value, 0); }

std::string KeyText(const Value& key) {
  return key.is(Kind::kString) ? std::string(key.text()) : Summarize(key);
}

}  // namespace reshard::torch_save
