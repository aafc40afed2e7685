#include "text/jinja_unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "text/jinja_unicode_tables.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

template <std::size_t Size>
bool in_ranges(const CodePointRange (&ranges)[Size], char32_t c) {
  const auto* found =
      std::upper_bound(std::begin(ranges), std::end(ranges), c,
                       [](char32_t value, const CodePointRange& r) { return value < r.first; });
  return found != std::begin(ranges) && c <= std::prev(found)->last;
}

template <std::size_t Size>
bool append_special(const SpecialCasing (&table)[Size], std::string& out, char32_t c) {
  const auto* found = std::lower_bound(std::begin(table), std::end(table), c,
                                       [](const SpecialCasing& s, char32_t value) { return s.from < value; });
  if (found == std::end(table) || found->from != c) return false;
  for (const char32_t to : found->to) {
    if (to != 0) append_utf8(out, to);
  }
  return true;
}

void append_upper(std::string& out, char32_t c) {
  if (append_special(kSpecialUpper, out, c)) return;
  append_utf8(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
}

void append_title(std::string& out, char32_t c) {
  if (append_special(kSpecialTitle, out, c)) return;
  append_utf8(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
}

bool is_cased(char32_t c) { return is_lower(c) || is_upper(c) || is_title(c); }

bool is_case_ignorable(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      break;
  }
  constexpr char32_t kPunctuation[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,  0x5F4,  0x2018, 0x2019,
                                       0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
  return std::find(std::begin(kPunctuation), std::end(kPunctuation), c) != std::end(kPunctuation);
}

/// A capital sigma at the end of a word: after a cased letter and not before one.
bool is_final_sigma(std::string_view text, std::size_t position, std::size_t size) {
  bool after_cased = false;
  for (std::size_t i = position; i > 0;) {
    i = previous_char(text, i);
    const char32_t c = next_char(text, i).code_point;
    if (is_case_ignorable(c)) continue;
    after_cased = is_cased(c);
    break;
  }
  if (!after_cased) return false;
  for (std::size_t i = position + size; i < text.size();) {
    const Utf8Char next = next_char(text, i);
    i += next.size;
    if (!is_case_ignorable(next.code_point)) return !is_cased(next.code_point);
  }
  return true;
}

void append_lower(std::string& out, std::string_view text, std::size_t position, const Utf8Char& c) {
  if (c.code_point == 0x3A3) {
    append_utf8(out, is_final_sigma(text, position, c.size) ? 0x3C2 : 0x3C3);
  } else if (!append_special(kSpecialLower, out, c.code_point)) {
    append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code_point))));
  }
}

template <typename Visit>
void for_each_char(std::string_view text, Visit&& visit) {
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    visit(i, c);
    i += c.size;
  }
}

template <typename Strips>
std::string_view strip_if(std::string_view text, StripSide side, Strips&& strips) {
  if (side != StripSide::kRight) {
    while (!text.empty()) {
      const Utf8Char c = next_char(text, 0);
      if (!strips(c.code_point)) break;
      text.remove_prefix(c.size);
    }
  }
  if (side != StripSide::kLeft) {
    while (!text.empty()) {
      const std::size_t last = previous_char(text, text.size());
      if (!strips(next_char(text, last).code_point)) break;
      text.remove_suffix(text.size() - last);
    }
  }
  return text;
}

}  // namespace

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::size_t byte_of_code_point(std::string_view text, std::size_t index) {
  std::size_t position = 0;
  for (; position < text.size(); ++position) {
    if ((static_cast<unsigned char>(text[position]) & 0xC0) == 0x80) continue;
    if (index == 0) return position;
    --index;
  }
  return position;
}

std::size_t previous_char(std::string_view text, std::size_t position) {
  do {
    --position;
  } while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  return position;
}

bool is_space(char32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_alpha(char32_t c) {
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return true;
    default:
      return false;
  }
}

bool is_decimal(char32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_digit(char32_t c) { return is_decimal(c) || in_ranges(kDigits, c); }

bool is_numeric(char32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO ||
         in_ranges(kNumerics, c);
}

bool is_alnum(char32_t c) { return is_alpha(c) || is_numeric(c); }
bool is_lower(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LL || in_ranges(kOtherLowercase, c); }
bool is_upper(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LU || in_ranges(kOtherUppercase, c); }
bool is_title(char32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

bool is_identifier_start(char32_t c) {
  return c == '_' || is_alpha(c) || category(c) == UTF8PROC_CATEGORY_NL;
}

bool is_identifier_part(char32_t c) {
  if (is_identifier_start(c)) return true;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_char(text, [&](std::size_t, const Utf8Char& c) { append_upper(out, c.code_point); });
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_char(text, [&](std::size_t i, const Utf8Char& c) { append_lower(out, text, i, c); });
  return out;
}

std::string to_title(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  bool after_cased = false;
  for_each_char(text, [&](std::size_t i, const Utf8Char& c) {
    if (after_cased) {
      append_lower(out, text, i, c);
    } else {
      append_title(out, c.code_point);
    }
    after_cased = is_cased(c.code_point);
  });
  return out;
}

std::string to_casefold(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_char(text, [&](std::size_t, const Utf8Char& c) {
    utf8proc_int32_t folded[8];
    int boundary_class = UTF8PROC_BOUNDCLASS_START;
    const utf8proc_ssize_t size = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c.code_point), folded,
                                                          8, UTF8PROC_CASEFOLD, &boundary_class);
    for (utf8proc_ssize_t i = 0; i < std::min<utf8proc_ssize_t>(size, 8); ++i) {
      append_utf8(out, static_cast<char32_t>(folded[i]));
    }
  });
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_char(text, [&](std::size_t i, const Utf8Char& c) {
    if (is_upper(c.code_point)) {
      append_lower(out, text, i, c);
    } else if (is_lower(c.code_point)) {
      append_upper(out, c.code_point);
    } else {
      append_utf8(out, c.code_point);
    }
  });
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_char(text, [&](std::size_t i, const Utf8Char& c) {
    if (i == 0) {
      append_title(out, c.code_point);
    } else {
      append_lower(out, text, i, c);
    }
  });
  return out;
}

std::string_view strip_space(std::string_view text, StripSide side) { return strip_if(text, side, is_space); }

std::string_view strip_chars(std::string_view text, std::string_view set, StripSide side) {
  return strip_if(text, side, [&](char32_t c) {
    std::string encoded;
    append_utf8(encoded, c);
    return set.find(encoded) != std::string_view::npos;
  });
}

}  // namespace sabrewing::text::jinja
