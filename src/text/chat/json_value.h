#pragma once

#include <string>
#include <string_view>

namespace sabrewing::text::chat {

/// Appends `text` as the inside of a JSON string.
void append_json_escaped(std::string& out, std::string_view text);

/// Checks one JSON value byte by byte: what it lets through is the start of a valid JSON text at any time.
/// Control characters inside strings, which JSON forbids and models write, come out escaped. Lone surrogate
/// escapes are refused.
class JsonValue {
 public:
  static constexpr std::size_t kMaxDepth = 64;

  enum class Step {
    kMore,
    kDone,        ///< the value ends with this byte
    kDoneBefore,  ///< a number ended before this byte
    kBroken,      ///< this byte cannot follow; nothing was appended
  };

  /// Appends what the byte gives to `out`. White space before the value is dropped.
  Step put(char c, std::string& out);

 private:
  enum class State {
    kValue,
    kValueOrEnd,
    kKeyOrEnd,
    kKey,
    kColon,
    kAfter,
    kString,
    kEscape,
    kHex,
    kLowSurrogate,
    kLowEscape,
    kLiteral,
    kMinus,
    kZero,
    kInteger,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits
  };

  Step begin_value(char c, std::string& out);
  Step end_value();
  Step close(char c, std::string& out);
  Step after_value(char c, std::string& out);
  Step string_byte(char c, std::string& out);
  Step hex_digit(char c, std::string& out);
  Step number_byte(char c, std::string& out);
  /// After the last digit of a number.
  Step end_number(char c, std::string& out);

  State state_ = State::kValue;
  std::string nesting_;  ///< '{' and '[' that are open
  bool key_ = false;     ///< the string being read is a key
  const char* literal_ = "";
  int digits_ = 0;  ///< of a \u escape
  unsigned unit_ = 0;
  bool low_ = false;  ///< the escape must be the second half of a pair
};

}  // namespace sabrewing::text::chat
