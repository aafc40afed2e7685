#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

namespace sabrewing::text::jinja {

enum class TokenKind : std::uint8_t {
  kData,
  kVariableBegin,
  kVariableEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  ///< template data, name, operator, or the decoded string
  Integer integer = 0;
  double number = 0.0;
};

/// "[chat template] line N: message" as an `Error{kCorrupt}`.
[[noreturn]] void fail_syntax(int line, const std::string& message);

/// Splits a template (well-formed UTF-8) with `trim_blocks` and `lstrip_blocks` on, as Jinja does:
/// comments and raw tags are gone, `-` and `+` signs are applied, one newline at the end is dropped.
std::vector<Token> tokenize(std::string_view source);

}  // namespace sabrewing::text::jinja
