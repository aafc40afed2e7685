#include "text/regex_dialect.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/error.h"
#include "text/utf8.h"

namespace sabrewing::text {
namespace {

constexpr std::size_t kMaxPattern = 1 << 16;
constexpr std::size_t kMaxGroups = 100;  // open at a time

/// General categories. Binary properties such as Alphabetic change too much between Unicode versions.
constexpr std::array<std::string_view, 37> kCategories = {
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",
    "Mc", "Me", "Mn", "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi",
    "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs"};

constexpr std::array<std::string_view, 24> kScripts = {
    "Arabic",   "Armenian", "Bengali",  "Bopomofo",  "Common",  "Cyrillic", "Devanagari", "Ethiopic",
    "Georgian", "Greek",    "Gujarati", "Han",       "Hangul",  "Hebrew",   "Hiragana",   "Katakana",
    "Khmer",    "Lao",      "Latin",    "Mongolian", "Myanmar", "Tamil",    "Thai",       "Tibetan"};

bool is_ascii_letter(char32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view what) : pattern_(pattern), what_(what) {}

  std::string run() {
    SABREWING_CHECK(pattern_.size() <= kMaxPattern, kCorrupt,
                    "[tokenizer] {}: {} bytes, at most {} are allowed", what_, pattern_.size(), kMaxPattern);
    while (at_ < pattern_.size()) element();
    if (ignore_case_.size() != 1) corrupt("( without )");
    return std::move(out_);
  }

 private:
  /// What the last element was, as far as it matters for the next one.
  enum class Last { kNothing, kAtom, kQuantifier, kInterval };

  [[noreturn]] void refuse(std::string_view construct) const {
    fail(ErrorCode::kUnsupported, "[tokenizer] {}: regex construct {} is not supported, in \"{}\"", what_,
         construct, one_line(pattern_, 120));
  }
  [[noreturn]] void corrupt(std::string_view problem) const {
    fail(ErrorCode::kCorrupt, "[tokenizer] {}: {} in regex \"{}\"", what_, problem, one_line(pattern_, 120));
  }
  bool ahead(std::string_view text) const { return pattern_.substr(at_, text.size()) == text; }
  bool take(std::string_view text) {
    if (!ahead(text)) return false;
    at_ += text.size();
    return true;
  }
  bool ignore_case() const { return ignore_case_.back(); }

  char32_t take_char() {
    if (at_ >= pattern_.size()) corrupt("unexpected end");
    const Utf8Char c = next_char(pattern_, at_);
    at_ += c.size;
    return c.code_point;
  }

  void element() {
    switch (pattern_[at_]) {
      case '(':
        return open_group();
      case ')':
        ++at_;
        if (ignore_case_.size() == 1) corrupt(") without (");
        ignore_case_.pop_back();
        out_ += ')';
        last_ = closes_look_around_.back() ? Last::kNothing : Last::kAtom;
        closes_look_around_.pop_back();
        return;
      case '|':
        ++at_;
        out_ += '|';
        last_ = Last::kNothing;
        folded_before_ = 0;
        return;
      case '?':
      case '*':
      case '+':
        return quantifier();
      case '{':
        return interval();
      case '[':
        ++at_;
        character_class();
        last_ = Last::kAtom;
        folded_before_ = 0;
        return;
      case '.':
        ++at_;
        out_ += '.';
        last_ = Last::kAtom;
        return;
      case '^':
      case '$':  // match at line breaks in Oniguruma, as with PCRE2_MULTILINE
        out_ += pattern_[at_++];
        last_ = Last::kNothing;
        return;
      case '\\':
        return escape_outside_class();
      default:
        return literal(take_char());
    }
  }

  void open_group() {
    static constexpr std::array<std::string_view, 6> kOpenings = {"(?:", "(?>", "(?=", "(?!", "(?<=", "(?<!"};
    if (ignore_case_.size() > kMaxGroups) refuse("that many nested groups");
    bool fold = ignore_case();
    bool look_around = false;
    if (take("(?i:")) {
      fold = true;
      out_ += "(?i:";
    } else if (ahead("(?")) {
      const auto opening =
          std::find_if(kOpenings.begin(), kOpenings.end(), [&](auto text) { return ahead(text); });
      if (opening == kOpenings.end()) refuse(fmt::format("\"{}\"", one_line(pattern_.substr(at_), 4)));
      at_ += opening->size();
      out_ += *opening;
      look_around = opening - kOpenings.begin() >= 2;
    } else {
      ++at_;
      out_ += "(?:";  // captures are not read, and back references are refused
    }
    ignore_case_.push_back(fold);
    closes_look_around_.push_back(look_around);
    last_ = Last::kNothing;
  }

  void quantifier() {
    const char sign = pattern_[at_++];
    if (last_ == Last::kNothing) corrupt("nothing to repeat");
    if (last_ == Last::kInterval) refuse("a repeat after {n,m}");
    if (last_ == Last::kQuantifier) refuse("a repeated repeat");
    out_ += sign;
    if (at_ < pattern_.size() && (pattern_[at_] == '?' || pattern_[at_] == '+')) out_ += pattern_[at_++];
    last_ = Last::kQuantifier;
  }

  /// {n} {n,} {,m} {n,m}; anything else in braces is literal text in neither engine alike.
  void interval() {
    std::size_t end = at_ + 1;
    const auto number = [&]() -> std::string_view {
      const std::size_t begin = end;
      while (end < pattern_.size() && is_digit(static_cast<unsigned char>(pattern_[end]))) ++end;
      return pattern_.substr(begin, end - begin);
    };
    const std::string_view low = number();
    const bool comma = end < pattern_.size() && pattern_[end] == ',';
    if (comma) ++end;
    const std::string_view high = comma ? number() : std::string_view{};
    const bool closed = end < pattern_.size() && pattern_[end] == '}';
    if (!closed || (low.empty() && high.empty())) refuse("{ (write \\{ for the character)");
    if (low.size() > 4 || high.size() > 4) refuse("a repeat count above 9999");
    if (last_ == Last::kNothing) corrupt("nothing to repeat");
    if (last_ == Last::kQuantifier || last_ == Last::kInterval) refuse("a repeated repeat");
    at_ = end + 1;
    out_ += fmt::format("{{{}{}{}}}", low.empty() ? "0" : low, comma ? "," : "", high);
    if (comma && !low.empty() && ahead("?")) {
      out_ += '?';
      ++at_;
      last_ = Last::kQuantifier;
    } else {
      last_ = Last::kInterval;
    }
  }

  void literal(char32_t c) {
    if (ignore_case()) {
      if (c >= 0x80) refuse("a character outside ASCII in (?i:)");
      // Oniguruma also folds one character to several: "ss" matches U+00DF; "ff", "fi", "fl", "st" ligatures.
      const char32_t lower = is_ascii_letter(c) ? c | 0x20 : 0;
      const bool one_character = (folded_before_ == 's' && (lower == 's' || lower == 't')) ||
                                 (folded_before_ == 'f' && (lower == 'f' || lower == 'i' || lower == 'l'));
      if (one_character) refuse("ss, st, ff, fi or fl in (?i:)");
      folded_before_ = lower;
    }
    append_literal(c);
    last_ = Last::kAtom;
  }

  void append_literal(char32_t c) {
    if (c < 0x80 && !is_ascii_letter(c) && !is_digit(c)) {
      out_ += fmt::format("\\x{{{:x}}}", static_cast<unsigned>(c));
    } else {
      append_utf8(out_, c);
    }
  }

  void escape_outside_class() {
    ++at_;
    const char32_t c = take_char();
    if (c == 's' || c == 'S' || c == 'd' || c == 'D' || c == 'p' || c == 'P') {
      if (ignore_case()) refuse(fmt::format("\\{} in (?i:)", static_cast<char>(c)));
      class_escape(c);
      last_ = Last::kAtom;
    } else {
      literal(escaped_character(c));
    }
  }

  void class_escape(char32_t c) {
    switch (c) {
      case 's':
        out_ += "\\p{White_Space}";
        return;
      case 'S':
        out_ += "\\P{White_Space}";
        return;
      case 'd':
        out_ += "\\p{Nd}";
        return;
      case 'D':
        out_ += "\\P{Nd}";
        return;
      default:
        property(c == 'P');
    }
  }

  void property(bool negated) {
    const std::size_t end = pattern_.find('}', at_);
    if (!ahead("{") || end == std::string_view::npos) corrupt("\\p without {name}");
    std::string_view name = pattern_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    if (!name.empty() && name.front() == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    const bool script = std::find(kScripts.begin(), kScripts.end(), name) != kScripts.end();
    if (!script && std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end()) {
      refuse(fmt::format("\\p{{{}}}", one_line(name, 40)));
    }
    out_ += fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', script ? "sc:" : "", name);
  }

  /// The one character that an escape stands for.
  char32_t escaped_character(char32_t c) {
    switch (c) {
      case 't':
        return '\t';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case 'a':
        return '\a';
      case 'e':
        return 0x1B;
      case 'x':
        return ahead("{") ? hexadecimal_in_braces() : hexadecimal(2);
      case 'u':
        return hexadecimal(4);
      default:
        if (is_ascii_letter(c) || is_digit(c)) refuse(fmt::format("\\{}", static_cast<char>(c)));
        return c;
    }
  }

  char32_t hexadecimal(std::size_t digits) {
    char32_t value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      const char32_t c = take_char();
      const bool letter = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      if (!is_digit(c) && !letter) corrupt("malformed hexadecimal escape");
      value = value << 4 | (letter ? (c | 0x20) - 'a' + 10 : c - '0');
    }
    if (value >= 0x80 && digits == 2)
      refuse("\\x80 to \\xff (a byte in one engine, a character in the other)");
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) corrupt("escape of no character");
    return value;
  }

  char32_t hexadecimal_in_braces() {
    ++at_;
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos || end == at_ || end - at_ > 6) corrupt("malformed \\x{...}");
    const std::size_t digits = end - at_;
    // Six digits at least: a short form in braces is a character, never a byte.
    std::string padded(6 - digits, '0');
    padded.append(pattern_.substr(at_, digits));
    Translator inner(padded, what_);
    const char32_t value = inner.hexadecimal(6);
    at_ = end + 1;
    return value;
  }

  void character_class() {
    out_ += '[';
    const bool negated = take("^");
    if (negated) {
      out_ += '^';
      if (ignore_case()) refuse("[^...] in (?i:)");
    }
    if (ahead("]")) refuse("an empty class or ] as its first character (write \\])");
    char32_t range_start = 0;
    bool may_range = false;  // after a character that a '-' may continue
    while (!take("]")) {
      if (at_ >= pattern_.size()) corrupt("[ without ]");
      if (ahead("[")) refuse("[ inside a class (write \\[)");
      if (ahead("&&")) refuse("&& inside a class");
      if (ahead("-")) {
        ++at_;
        const bool last = ahead("]");
        if (!last && may_range) {
          const char32_t high = class_character();
          if (high < range_start) corrupt("range out of order");
          out_ += '-';
          append_literal(high);
          may_range = false;
          if (ahead("-") && !pattern_.substr(at_).starts_with("-]")) refuse("- after a range (write \\-)");
          continue;
        }
        if (!last && out_.back() != '[' && out_.back() != '^')
          refuse("- after a class inside a class (write \\-)");
        append_literal('-');
        continue;
      }
      if (ahead("\\")) {
        const std::size_t start = at_;
        ++at_;
        const char32_t c = take_char();
        if (c == 's' || c == 'S' || c == 'd' || c == 'D' || c == 'p' || c == 'P') {
          if (ignore_case()) refuse(fmt::format("\\{} in (?i:)", static_cast<char>(c)));
          class_escape(c);
          may_range = false;
          continue;
        }
        at_ = start;
      }
      range_start = class_character();
      may_range = true;
      append_literal(range_start);
    }
    out_ += ']';
  }

  char32_t class_character() {
    char32_t c = take_char();
    if (c == '\\') {
      c = take_char();
      if (c == 's' || c == 'S' || c == 'd' || c == 'D' || c == 'p' || c == 'P') refuse("a range to a class");
      c = escaped_character(c);
    } else if (c == '[') {
      refuse("[ inside a class (write \\[)");
    }
    if (ignore_case() && c >= 0x80) refuse("a character outside ASCII in (?i:)");
    return c;
  }

  std::string_view pattern_;
  std::string_view what_;
  std::size_t at_ = 0;
  std::string out_;
  Last last_ = Last::kNothing;
  char32_t folded_before_ = 0;  // the letter in (?i:) just before, in lower case
  std::vector<bool> ignore_case_{false};
  std::vector<bool> closes_look_around_;
};

}  // namespace

std::string translate_regex(std::string_view pattern, std::string_view what) {
  return Translator(pattern, what).run();
}

}  // namespace sabrewing::text
