#include "text/chat/json_value.h"

#include <fmt/format.h>

#include <cstdint>
#include <iterator>

#include "text/chat/tape.h"

namespace sabrewing::text::chat {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void append_escaped(std::string& out, char c) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  if (static_cast<unsigned char>(c) < 0x20) {
    fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
  } else {
    out += c;
  }
}

}  // namespace

void append_json_escaped(std::string& out, std::string_view text) {
  for (const char c : text) append_escaped(out, c);
}

JsonValue::Step JsonValue::put(char c, std::string& out) {
  switch (state_) {
    case State::kValue:
      return is_space(c) && nesting_.empty() ? Step::kMore : begin_value(c, out);
    case State::kValueOrEnd:
      return c == ']' ? close(c, out) : begin_value(c, out);
    case State::kKeyOrEnd:
    case State::kKey:
      if (is_space(c)) {
        out += c;
        return Step::kMore;
      }
      if (c == '}' && state_ == State::kKeyOrEnd) return close(c, out);
      if (c != '"') return Step::kBroken;
      out += c;
      key_ = true;
      state_ = State::kString;
      return Step::kMore;
    case State::kColon:
      if (!is_space(c) && c != ':') return Step::kBroken;
      out += c;
      if (c == ':') state_ = State::kValue;
      return Step::kMore;
    case State::kAfter:
      return after_value(c, out);
    case State::kString:
    case State::kEscape:
    case State::kLowSurrogate:
    case State::kLowEscape:
      return string_byte(c, out);
    case State::kHex:
      return hex_digit(c, out);
    case State::kLiteral:
      if (c != *literal_) return Step::kBroken;
      out += c;
      return *++literal_ == '\0' ? end_value() : Step::kMore;
    default:
      return number_byte(c, out);
  }
}

JsonValue::Step JsonValue::begin_value(char c, std::string& out) {
  if (is_space(c)) {
    out += c;
    return Step::kMore;
  }
  switch (c) {
    case '{':
    case '[':
      if (nesting_.size() == kMaxDepth) return Step::kBroken;
      nesting_ += c;
      state_ = c == '{' ? State::kKeyOrEnd : State::kValueOrEnd;
      break;
    case '"':
      key_ = false;
      state_ = State::kString;
      break;
    case 't':
    case 'f':
    case 'n':
      literal_ = c == 't' ? "rue" : c == 'f' ? "alse" : "ull";
      state_ = State::kLiteral;
      break;
    case '-':
      state_ = State::kMinus;
      break;
    case '0':
      state_ = State::kZero;
      break;
    default:
      if (!is_digit(c)) return Step::kBroken;
      state_ = State::kInteger;
  }
  out += c;
  return Step::kMore;
}

JsonValue::Step JsonValue::end_value() {
  state_ = State::kAfter;
  return nesting_.empty() ? Step::kDone : Step::kMore;
}

JsonValue::Step JsonValue::close(char c, std::string& out) {
  out += c;
  nesting_.pop_back();
  return end_value();
}

JsonValue::Step JsonValue::after_value(char c, std::string& out) {
  const bool object = nesting_.back() == '{';
  if (c == (object ? '}' : ']')) return close(c, out);
  if (!is_space(c) && c != ',') return Step::kBroken;
  out += c;
  if (c == ',') state_ = object ? State::kKey : State::kValue;
  return Step::kMore;
}

JsonValue::Step JsonValue::string_byte(char c, std::string& out) {
  switch (state_) {
    case State::kString:
      if (c == '"') {
        out += c;
        if (!key_) return end_value();
        state_ = State::kColon;
      } else if (c == '\\') {
        out += c;
        state_ = State::kEscape;
      } else {
        append_escaped(out, c);
      }
      return Step::kMore;
    case State::kLowSurrogate:
      if (c != '\\') return Step::kBroken;
      out += c;
      state_ = State::kLowEscape;
      return Step::kMore;
    default:
      break;
  }
  if (state_ == State::kLowEscape ? c != 'u'
                                  : std::string_view("\"\\/bfnrtu").find(c) == std::string_view::npos)
    return Step::kBroken;
  out += c;
  if (c == 'u') {
    low_ = state_ == State::kLowEscape;
    digits_ = 0;
    unit_ = 0;
    state_ = State::kHex;
  } else {
    state_ = State::kString;
  }
  return Step::kMore;
}

JsonValue::Step JsonValue::hex_digit(char c, std::string& out) {
  const int value = hex_value(c);
  if (value < 0) return Step::kBroken;
  unit_ = unit_ * 16 + static_cast<unsigned>(value);
  if (++digits_ == 4) {
    const bool second = unit_ >= 0xDC00 && unit_ <= 0xDFFF;
    if (second != low_) return Step::kBroken;
    state_ = unit_ >= 0xD800 && unit_ <= 0xDBFF ? State::kLowSurrogate : State::kString;
  }
  out += c;
  return Step::kMore;
}

JsonValue::Step JsonValue::number_byte(char c, std::string& out) {
  const auto go = [&](State next) {
    out += c;
    state_ = next;
    return Step::kMore;
  };
  const bool exponent = c == 'e' || c == 'E';
  switch (state_) {
    case State::kMinus:
      return c == '0' ? go(State::kZero) : is_digit(c) ? go(State::kInteger) : Step::kBroken;
    case State::kZero:
    case State::kInteger:
      if (is_digit(c)) return state_ == State::kInteger ? go(state_) : Step::kBroken;
      return c == '.' ? go(State::kPoint) : exponent ? go(State::kExponent) : end_number(c, out);
    case State::kPoint:
      return is_digit(c) ? go(State::kFraction) : Step::kBroken;
    case State::kFraction:
      return is_digit(c) ? go(state_) : exponent ? go(State::kExponent) : end_number(c, out);
    case State::kExponent:
      if (c == '+' || c == '-') return go(State::kExponentSign);
      return is_digit(c) ? go(State::kExponentDigits) : Step::kBroken;
    case State::kExponentSign:
      return is_digit(c) ? go(State::kExponentDigits) : Step::kBroken;
    default:
      return is_digit(c) ? go(State::kExponentDigits) : end_number(c, out);
  }
}

JsonValue::Step JsonValue::end_number(char c, std::string& out) {
  state_ = State::kAfter;
  return nesting_.empty() ? Step::kDoneBefore : after_value(c, out);
}

}  // namespace sabrewing::text::chat
