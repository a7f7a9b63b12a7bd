#include "base/json_writer.h"

#include <fmt/format.h>

#include <cassert>
#include <cmath>
#include <iterator>
#include <utility>

namespace reshard {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

struct Decoded {
  char32_t code_point;
  size_t length;
};

/// The range that the second byte of a sequence must lie in, by its first byte. It alone keeps out
/// overlong forms, surrogates and what lies past U+10FFFF (Unicode 15, table 3-7).
struct SecondByte {
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
};
SecondByte SecondByteRange(uint8_t first) {
  switch (first) {
    case 0xE0:
      return {.low = 0xA0};
    case 0xED:
      return {.high = 0x9F};
    case 0xF0:
      return {.low = 0x90};
    case 0xF4:
      return {.high = 0x8F};
    default:
      return {};
  }
}

/// The code point that starts `text`, which is not empty; kReplacement and the length of the
/// maximal ill-formed part where there is none.
Decoded DecodeUtf8(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {first, 1};
  if (first < 0xC2 || first > 0xF4) return {kReplacement, 1};
  const size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  char32_t code_point = first & (0x7Fu >> length);
  SecondByte range = SecondByteRange(first);
  for (size_t i = 1; i < length; ++i, range = {}) {
    if (i == text.size()) return {kReplacement, i};
    const auto byte = static_cast<uint8_t>(text[i]);
    if (byte < range.low || byte > range.high) return {kReplacement, i};
    code_point = code_point << 6 | (byte & 0x3F);
  }
  return {code_point, length};
}

bool IsPlain(char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; }

}  // namespace

void JsonWriter::Begin(char bracket, bool is_object) {
  BeforeValue();
  assert(depth_ < kMaxDepth);
  text_ += bracket;
  in_object_[depth_++] = is_object;
  first_ = true;
}

void JsonWriter::End(char bracket, [[maybe_unused]] bool is_object) {
  assert(depth_ > 0 && in_object_[depth_ - 1] == is_object && !after_key_);
  --depth_;
  if (!first_) NewLine();
  text_ += bracket;
  first_ = false;
}

void JsonWriter::Key(std::string_view name) {
  assert(depth_ > 0 && in_object_[depth_ - 1] && !after_key_);
  Comma();
  Quoted(name);
  text_ += style_.indent > 0 ? ": " : ":";
  after_key_ = true;
}

void JsonWriter::Value(std::string_view text) {
  BeforeValue();
  Quoted(text);
}

void JsonWriter::Value(double number) {
  if (!std::isfinite(number)) return Raw("null");
  std::string digits = fmt::format("{}", number);
  if (digits.find_first_of(".e") == std::string::npos) digits += ".0";
  Raw(digits);
}

std::string JsonWriter::Take() {
  assert(depth_ == 0 && !after_key_);
  first_ = true;
  return std::exchange(text_, {});
}

void JsonWriter::BeforeValue() {
  if (std::exchange(after_key_, false)) return;
  assert(depth_ == 0 ? text_.empty() : !in_object_[depth_ - 1]);
  if (depth_ > 0) Comma();
}

void JsonWriter::Raw(std::string_view token) {
  BeforeValue();
  text_ += token;
}

void JsonWriter::Signed(int64_t number) { Raw(fmt::format_int(number).c_str()); }

void JsonWriter::Unsigned(uint64_t number) { Raw(fmt::format_int(number).c_str()); }

void JsonWriter::Comma() {
  if (!first_) text_ += ',';
  first_ = false;
  NewLine();
}

void JsonWriter::NewLine() {
  if (style_.indent <= 0) return;
  text_ += '\n';
  text_.append(depth_ * static_cast<size_t>(style_.indent), ' ');
}

void JsonWriter::Quoted(std::string_view text) {
  text_ += '"';
  while (!text.empty()) {
    size_t plain = 0;
    while (plain < text.size() && IsPlain(text[plain])) ++plain;
    text_ += text.substr(0, plain);
    text.remove_prefix(plain);
    if (text.empty()) break;
    const Decoded next = DecodeUtf8(text);
    const bool as_is = next.code_point >= 0x7F && !style_.ascii;
    if (as_is && next.code_point != kReplacement) {
      text_ += text.substr(0, next.length);
    } else if (as_is) {
      text_ += "\xEF\xBF\xBD";
    } else {
      Escaped(next.code_point);
    }
    text.remove_prefix(next.length);
  }
  text_ += '"';
}

void JsonWriter::Escaped(char32_t code_point) {
  switch (code_point) {
    case '"':
      text_ += "\\\"";
      return;
    case '\\':
      text_ += "\\\\";
      return;
    case '\b':
      text_ += "\\b";
      return;
    case '\f':
      text_ += "\\f";
      return;
    case '\n':
      text_ += "\\n";
      return;
    case '\r':
      text_ += "\\r";
      return;
    case '\t':
      text_ += "\\t";
      return;
    default:
      break;
  }
  auto unit = [this](uint32_t value) {
    fmt::format_to(std::back_inserter(text_), "\\u{:04x}", value);
  };
  const auto value = static_cast<uint32_t>(code_point);
  if (value < 0x10000) return unit(value);
  unit(0xD800 + ((value - 0x10000) >> 10));
  unit(0xDC00 + ((value - 0x10000) & 0x3FF));
}

}  // namespace reshard
