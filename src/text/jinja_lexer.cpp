#include "text/jinja_lexer.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "core/error.h"
#include "text/jinja_unicode.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

bool is_ascii_digit(char c) { return c >= '0' && c <= '9'; }

int digit_of(char c) {
  if (is_ascii_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
  return 99;
}

/// "\r\n" and "\r" become "\n"; one newline at the end goes.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalize_newlines(source)) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) root();
    push(TokenKind::kEnd, {});
    return std::move(tokens_);
  }

 private:
  struct RawBegin {
    std::size_t end = 0;
    char sign = 0;
  };

  std::string_view rest() const { return std::string_view(source_).substr(position_); }
  bool at(std::string_view text) const { return rest().substr(0, text.size()) == text; }
  char sign_at(std::size_t position) const {
    const char c = position < source_.size() ? source_[position] : '\0';
    return c == '-' || c == '+' ? c : '\0';
  }

  Token& push(TokenKind kind, std::string text) {
    Token token;
    token.kind = kind;
    token.line = line_;
    token.text = std::move(text);
    tokens_.push_back(std::move(token));
    return tokens_.back();
  }

  /// Moves forward, counting lines.
  void advance_to(std::size_t position) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(position_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
    if (position > position_) line_starting_ = source_[position - 1] == '\n';
    position_ = position;
  }

  std::size_t skip_space(std::size_t position) const {
    while (position < source_.size()) {
      const Utf8Char c = next_char(source_, position);
      if (!is_space(c.code_point)) break;
      position += c.size;
    }
    return position;
  }

  /// `word` surrounded by optional space from `position`: the position after, or nothing.
  std::optional<std::size_t> skip_word(std::size_t position, std::string_view word) const {
    position = skip_space(position);
    if (std::string_view(source_).substr(position, word.size()) != word) return std::nullopt;
    return skip_space(position + word.size());
  }

  /// The end of a closing delimiter at `position` with its sign and what it swallows, or nothing.
  std::optional<std::size_t> match_close(std::size_t position, std::string_view close, bool plus,
                                         bool trims) const {
    const std::string_view text(source_);
    if (text.substr(position, close.size()) == close) {
      position += close.size();
      return trims && text.substr(position, 1) == "\n" ? position + 1 : position;
    }
    if (text.substr(position + 1 > text.size() ? text.size() : position + 1, close.size()) != close) {
      return std::nullopt;
    }
    if (text[position] == '-') return skip_space(position + 1 + close.size());
    if (plus && text[position] == '+') return position + 1 + close.size();
    return std::nullopt;
  }

  std::optional<RawBegin> match_raw(std::size_t position) const {
    RawBegin raw;
    raw.sign = sign_at(position + 2);
    const auto after = skip_word(position + 2 + (raw.sign != 0 ? 1 : 0), "raw");
    if (!after) return std::nullopt;
    const auto end = match_close(*after, "%}", false, false);
    if (!end) return std::nullopt;
    raw.end = *end;
    return raw;
  }

  /// Emits the data before a tag, stripped as the tag's sign and lstrip_blocks ask.
  void data(std::string_view text, char sign, bool strips_line) {
    std::string_view kept = text;
    if (sign == '-') {
      kept = strip_space(text, StripSide::kRight);
    } else if (sign != '+' && strips_line) {
      const std::size_t newline = text.rfind('\n');
      const std::size_t start = newline == std::string_view::npos ? 0 : newline + 1;
      if ((start > 0 || line_starting_) && strip_space(text.substr(start), StripSide::kBoth).empty()) {
        kept = text.substr(0, start);
      }
    }
    if (!kept.empty()) push(TokenKind::kData, std::string(kept));
  }

  void root() {
    std::size_t tag = position_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= source_.size()) {
        push(TokenKind::kData, std::string(rest()));
        advance_to(source_.size());
        return;
      }
      const char next = source_[tag + 1];
      if (next == '%' || next == '{' || next == '#') break;
      ++tag;
    }
    const std::string_view before = std::string_view(source_).substr(position_, tag - position_);
    const char type = source_[tag + 1];
    if (type == '%') {
      if (const auto raw = match_raw(tag)) {
        data(before, raw->sign, true);
        advance_to(raw->end);
        raw_block();
        return;
      }
    }
    const char sign = sign_at(tag + 2);
    data(before, sign, type != '{');
    advance_to(tag);
    if (type == '#') {
      comment(tag + 2 + (sign != 0 ? 1 : 0));
      return;
    }
    push(type == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin, {});
    advance_to(tag + 2 + (sign != 0 ? 1 : 0));
    expression(type == '{');
  }

  void comment(std::size_t position) {
    // Jinja lets a comment or raw directive go unclosed where nothing at all follows.
    if (position >= source_.size()) {
      advance_to(source_.size());
      return;
    }
    for (; position < source_.size(); ++position) {
      if (const auto end = match_close(position, "#}", true, true)) {
        advance_to(*end);
        return;
      }
    }
    fail_syntax(line_, "missing end of comment tag");
  }

  void raw_block() {
    if (position_ >= source_.size()) return;
    for (std::size_t i = source_.find("{%", position_); i != std::string::npos;
         i = source_.find("{%", i + 1)) {
      const char sign = sign_at(i + 2);
      const auto after = skip_word(i + 2 + (sign != 0 ? 1 : 0), "endraw");
      if (!after) continue;
      const auto end = match_close(*after, "%}", true, true);
      if (!end) continue;
      data(std::string_view(source_).substr(position_, i - position_), sign, true);
      advance_to(*end);
      return;
    }
    fail_syntax(line_, "missing end of raw directive");
  }

  void expression(bool variable) {
    std::string open;
    while (position_ < source_.size()) {
      if (open.empty()) {
        const auto end =
            variable ? match_close(position_, "}}", false, false) : match_close(position_, "%}", true, true);
        if (end) {
          push(variable ? TokenKind::kVariableEnd : TokenKind::kBlockEnd, {});
          advance_to(*end);
          return;
        }
      }
      const std::size_t after_space = skip_space(position_);
      if (after_space > position_) {
        advance_to(after_space);
        continue;
      }
      if (number() || name() || string()) continue;
      operation(open);
    }
  }

  /// Digits with single underscores between them from `position`; the position after.
  std::size_t skip_digits(std::size_t position, int base) const {
    std::size_t i = position;
    while (i < source_.size()) {
      if (digit_of(source_[i]) < base) {
        ++i;
      } else if (source_[i] == '_' && i > position && i + 1 < source_.size() &&
                 digit_of(source_[i + 1]) < base) {
        i += 2;
      } else {
        break;
      }
    }
    return i;
  }

  static std::string without_underscores(std::string_view text) {
    std::string out;
    std::copy_if(text.begin(), text.end(), std::back_inserter(out), [](char c) { return c != '_'; });
    return out;
  }

  std::size_t exponent_end(std::size_t position) const {
    if (position >= source_.size() || (source_[position] != 'e' && source_[position] != 'E')) return position;
    std::size_t digits = position + 1;
    if (digits < source_.size() && (source_[digits] == '+' || source_[digits] == '-')) ++digits;
    const std::size_t end = skip_digits(digits, 10);
    return end > digits ? end : position;
  }

  bool number() {
    if (!is_ascii_digit(source_[position_])) return false;
    if (position_ == 0 || source_[position_ - 1] != '.') {
      const std::size_t whole = skip_digits(position_, 10);
      std::size_t end = whole;
      if (whole + 1 < source_.size() && source_[whole] == '.' && is_ascii_digit(source_[whole + 1])) {
        end = skip_digits(whole + 1, 10);
      }
      end = exponent_end(end);
      if (end > whole) {
        const std::string text =
            without_underscores(std::string_view(source_).substr(position_, end - position_));
        push(TokenKind::kFloat, {}).number = std::strtod(text.c_str(), nullptr);
        advance_to(end);
        return true;
      }
    }
    integer();
    return true;
  }

  void integer() {
    int base = 10;
    std::size_t digits = position_;
    if (source_[position_] == '0' && position_ + 1 < source_.size()) {
      const char prefix = static_cast<char>(source_[position_ + 1] | 0x20);
      base = prefix == 'b' ? 2 : prefix == 'o' ? 8 : prefix == 'x' ? 16 : 10;
      if (base != 10) {
        digits += 2;
        if (digits < source_.size() && source_[digits] == '_') ++digits;
        if (digits >= source_.size() || digit_of(source_[digits]) >= base) {
          base = 10;
          digits = position_;
        }
      }
    }
    // A leading zero is followed by zeros only.
    const bool zeros = base == 10 && source_[digits] == '0';
    const std::size_t end = skip_digits(digits, zeros ? 1 : base);
    Integer value = 0;
    for (std::size_t i = digits; i < end; ++i) {
      if (source_[i] == '_') continue;
      if (__builtin_mul_overflow(value, static_cast<Integer>(base), &value) ||
          __builtin_add_overflow(value, static_cast<Integer>(digit_of(source_[i])), &value)) {
        fail_syntax(line_, "an integer literal exceeds 127 bits");
      }
    }
    push(TokenKind::kInteger, {}).integer = value;
    advance_to(end);
  }

  bool name() {
    std::size_t end = position_;
    bool first = true;
    while (end < source_.size()) {
      const Utf8Char c = next_char(source_, end);
      if (!(first ? is_identifier_start(c.code_point) : is_identifier_part(c.code_point))) break;
      first = false;
      end += c.size;
    }
    if (first) return false;
    push(TokenKind::kName, source_.substr(position_, end - position_));
    advance_to(end);
    return true;
  }

  bool string() {
    const char quote = source_[position_];
    if (quote != '\'' && quote != '"') return false;
    std::size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail_syntax(line_, "a string literal is not closed");
    std::string text = unescape(std::string_view(source_).substr(position_ + 1, end - position_ - 1));
    push(TokenKind::kString, std::move(text));
    advance_to(end + 1);
    return true;
  }

  /// Appends the code point of an escape with exactly `count` hexadecimal digits from `position`.
  std::size_t hex_escape(std::string& out, std::string_view text, std::size_t position,
                         std::size_t count) const {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const int digit = position + i < text.size() ? digit_of(text[position + i]) : 99;
      if (digit >= 16) fail_syntax(line_, "truncated escape in a string literal");
      value = value * 16 + static_cast<std::uint32_t>(digit);
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      fail_syntax(line_, "an escape in a string literal is not a Unicode character");
    }
    append_utf8(out, value);
    return position + count;
  }

  /// Python's "unicode-escape" after "backslashreplace" of what is not ASCII.
  std::string unescape(std::string_view text) const {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      if (text[i] != '\\') {
        out += text[i++];
        continue;
      }
      const Utf8Char escaped = next_char(text, i + 1);
      if (escaped.size > 1) {
        const auto code = static_cast<std::uint32_t>(escaped.code_point);
        out += code < 0x100     ? fmt::format("\\x{:02x}", code)
               : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                                : fmt::format("\\U{:08x}", code);
        i += 1 + escaped.size;
        continue;
      }
      const char c = text[i + 1];
      i += 2;
      constexpr std::string_view kNames = "\\'\"abfnrtv";
      constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
      if (const std::size_t simple = kNames.find(c); simple != std::string_view::npos) {
        out += kValues[simple];
      } else if (c >= '0' && c <= '7') {
        std::uint32_t value = static_cast<std::uint32_t>(c - '0');
        for (int k = 0; k < 2 && i < text.size() && text[i] >= '0' && text[i] <= '7'; ++k) {
          value = value * 8 + static_cast<std::uint32_t>(text[i++] - '0');
        }
        append_utf8(out, value);
      } else if (c == 'x') {
        i = hex_escape(out, text, i, 2);
      } else if (c == 'u') {
        i = hex_escape(out, text, i, 4);
      } else if (c == 'U') {
        i = hex_escape(out, text, i, 8);
      } else if (c == 'N') {
        throw Error(ErrorCode::kUnsupported,
                    fmt::format("[chat template] line {}: escape \\N{{name}} is not supported", line_));
      } else if (c != '\n') {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  void operation(std::string& open) {
    constexpr std::string_view kTwo[] = {"//", "**", "==", "!=", ">=", "<="};
    for (const std::string_view op : kTwo) {
      if (at(op)) {
        push(TokenKind::kOperator, std::string(op));
        advance_to(position_ + 2);
        return;
      }
    }
    const char c = source_[position_];
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      const Utf8Char bad = next_char(source_, position_);
      fail_syntax(line_, fmt::format("unexpected character {}", string_repr(rest().substr(0, bad.size))));
    }
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) fail_syntax(line_, fmt::format("unexpected '{}'", c));
      if (open.back() != c) fail_syntax(line_, fmt::format("unexpected '{}', expected '{}'", c, open.back()));
      open.pop_back();
    }
    push(TokenKind::kOperator, std::string(1, c));
    advance_to(position_ + 1);
  }

  std::string source_;
  std::size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

void fail_syntax(int line, const std::string& message) {
  throw Error(ErrorCode::kCorrupt, fmt::format("[chat template] line {}: {}", line, message));
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace sabrewing::text::jinja
