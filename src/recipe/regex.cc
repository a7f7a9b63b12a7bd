#include "recipe/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <new>

#include <fmt/format.h>

namespace reshard {

Result<Regex> Regex::Compile(std::string_view pattern) {
  int code = 0;
  PCRE2_SIZE offset = 0;
  // As Python's re on str: UTF-8, Unicode classes, and `$` as it stands there.
  pcre2_code* compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &offset, nullptr);
  if (!compiled && code == PCRE2_ERROR_HEAP_FAILED) throw std::bad_alloc();
  if (!compiled) {
    std::array<char, 256> message{};
    pcre2_get_error_message(code, reinterpret_cast<PCRE2_UCHAR*>(message.data()), message.size());
    return std::unexpected(Error{
        .kind = ErrorKind::kUsage,
        .found = fmt::format("the regular expression '{}' is wrong at character {}: {}", pattern,
                             offset, message.data()),
        .help = "quote it with '...' in the shell; a literal dot is written \\."});
  }
  Regex regex;
  regex.pattern_ = pattern;
  regex.code_ = std::shared_ptr<void>(
      compiled, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); });
  return regex;
}

std::string Regex::Escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (std::string_view("\\^$.[]|()?*+{}").contains(c)) out += '\\';
    out += c;
  }
  return out;
}

Result<bool> Regex::Search(std::string_view name) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  pcre2_match_data* data = pcre2_match_data_create_from_pattern(code, nullptr);
  if (!data) throw std::bad_alloc();
  const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0,
                                 0, data, nullptr);
  pcre2_match_data_free(data);
  if (result >= 0) return true;
  // A name that is not UTF-8 cannot be meant by an expression that is.
  if (result == PCRE2_ERROR_NOMATCH || (result <= PCRE2_ERROR_UTF8_ERR1 &&
                                        result >= PCRE2_ERROR_UTF8_ERR21))
    return false;
  return std::unexpected(Error{
      .kind = ErrorKind::kUsage,
      .tensor = std::string(name),
      .found = fmt::format("the regular expression '{}' takes too many steps on this name",
                           pattern_),
      .help = "avoid nested repetition such as (a+)+"});
}

}  // namespace reshard
