#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sabrewing::text {

/// One step over UTF-8 text.
struct Utf8Char {
  char32_t code_point = 0;
  std::size_t size = 0;  ///< bytes read
};

/// The code point that starts at `position`, which must be a boundary of well-formed UTF-8.
Utf8Char next_char(std::string_view text, std::size_t position);

/// Appends the UTF-8 form of a code point (not a surrogate, at most U+10FFFF).
void append_utf8(std::string& out, char32_t code_point);

/// Byte position of the first ill-formed sequence (surrogates, overlong forms and values past U+10FFFF
/// are ill-formed), or nothing.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

/// How many bytes at the end of `text` are the proper start of a character that more bytes could complete.
std::size_t incomplete_utf8_suffix(std::string_view text);

/// Appends `bytes` with every maximal ill-formed part replaced by U+FFFD, as the Unicode standard
/// recommends ("substitution of maximal subparts").
void append_utf8_lossy(std::string& out, std::string_view bytes);

/// For messages of one line: at most about `limit` bytes of well-formed UTF-8, controls replaced by '?'.
std::string one_line(std::string_view text, std::size_t limit = 80);

}  // namespace sabrewing::text
