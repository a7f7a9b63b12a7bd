#ifndef RESHARD_BASE_JSON_WRITER_H_
#define RESHARD_BASE_JSON_WRITER_H_

#include <bitset>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace reshard {

/// How JsonWriter spells what JSON leaves open.
struct JsonStyle {
  /// Spaces per level, as in json.dumps(indent=n). 0: everything on one line, without any spaces.
  int indent = 0;
  /// Escape everything outside ASCII, as in json.dumps(ensure_ascii=True). Otherwise only what JSON
  /// demands is escaped, as in ensure_ascii=False and in Rust's serde_json.
  bool ascii = false;
};

/// Appends JSON text to a string, token by token. The same calls give the same bytes; with an
/// indent they are the bytes of Python's json.dumps for the same value. Keys keep the order in
/// which they are given.
///
/// The calls must form one JSON value, nested at most kMaxDepth deep: that is the caller's to see
/// to, and asserted.
class JsonWriter {
 public:
  static constexpr size_t kMaxDepth = 64;

  explicit JsonWriter(JsonStyle style = {}) : style_(style) {}

  void BeginObject() { Begin('{', /*is_object=*/true); }
  void EndObject() { End('}', /*is_object=*/true); }
  void BeginArray() { Begin('[', /*is_object=*/false); }
  void EndArray() { End(']', /*is_object=*/false); }

  /// The name of the object's next member.
  void Key(std::string_view name);

  /// Text. Each maximal part that is not valid UTF-8 becomes one U+FFFD, as in Python's
  /// bytes.decode(errors="replace").
  void Value(std::string_view text);
  void Value(const char* text) { Value(std::string_view(text)); }
  void Value(const std::string& text) { Value(std::string_view(text)); }
  void Value(std::nullptr_t) { Raw("null"); }

  /// The shortest decimal that reads back as the same double; always with a point or an exponent.
  /// JSON has no infinities and no NaN: they become null.
  void Value(double number);

  template <std::same_as<bool> T>
  void Value(T truth) {
    Raw(truth ? "true" : "false");
  }
  template <std::integral T>
  requires(!std::same_as<T, bool>) void Value(T number) {
    if constexpr (std::is_signed_v<T>) {
      Signed(number);
    } else {
      Unsigned(number);
    }
  }

  /// A member in one call.
  template <typename T>
  void Member(std::string_view name, const T& value) {
    Key(name);
    Value(value);
  }

  /// A member that is a list of texts.
  void Member(std::string_view name, const std::vector<std::string>& texts) {
    Key(name);
    BeginArray();
    for (const std::string& text : texts) Value(text);
    EndArray();
  }

  /// A member that is an object of counts.
  void Member(std::string_view name, const std::map<std::string, uint64_t>& counts) {
    Key(name);
    BeginObject();
    for (const auto& [key, count] : counts) Member(key, count);
    EndObject();
  }

  /// The finished text, without a final newline. The writer is then empty again.
  std::string Take();

 private:
  void Begin(char bracket, bool is_object);
  void End(char bracket, bool is_object);
  void BeforeValue();
  void Raw(std::string_view token);
  void Signed(int64_t number);
  void Unsigned(uint64_t number);
  void Comma();
  void NewLine();
  void Quoted(std::string_view text);
  void Escaped(char32_t code_point);

  JsonStyle style_;
  std::string text_;
  size_t depth_ = 0;
  std::bitset<kMaxDepth> in_object_;  // by level; those below depth_ count
  bool first_ = true;                 // nothing stands yet in the innermost container
  bool after_key_ = false;
};

}  // namespace reshard

#endif  // RESHARD_BASE_JSON_WRITER_H_
