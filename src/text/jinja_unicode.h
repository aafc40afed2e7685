#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// Code-point semantics of Python's `str` over well-formed UTF-8.
namespace sabrewing::text::jinja {

std::size_t count_code_points(std::string_view text);
/// Byte position of the code point `index`; the size of the text when there are not that many.
std::size_t byte_of_code_point(std::string_view text, std::size_t index);
/// Start of the character that ends before byte `position`, which must not be zero.
std::size_t previous_char(std::string_view text, std::size_t position);

bool is_space(char32_t c);
bool is_alpha(char32_t c);
bool is_decimal(char32_t c);
bool is_digit(char32_t c);
bool is_numeric(char32_t c);
bool is_alnum(char32_t c);
bool is_lower(char32_t c);
bool is_upper(char32_t c);
bool is_title(char32_t c);
bool is_printable(char32_t c);
bool is_identifier_start(char32_t c);
bool is_identifier_part(char32_t c);
/// Ends a line for `str.splitlines`.
bool is_line_break(char32_t c);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);
std::string to_casefold(std::string_view text);
std::string swap_case(std::string_view text);
/// First character in title case, the others in lower case.
std::string capitalize(std::string_view text);

enum class StripSide { kLeft, kRight, kBoth };
std::string_view strip_space(std::string_view text, StripSide side);
/// Strips any of the characters of `set`.
std::string_view strip_chars(std::string_view text, std::string_view set, StripSide side);

}  // namespace sabrewing::text::jinja
