// The filters on numbers: abs, int, float, round.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_ops.h"
#include "text/jinja_unicode.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

/// Python's int(text, base): optional sign, prefix of the base, single underscores.
std::optional<Value> parse_integer(Runtime& runtime, std::string_view text, std::int64_t base) {
  text = strip_space(text, StripSide::kBoth);
  bool negative_sign = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative_sign = text[0] == '-';
    text.remove_prefix(1);
  }
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  const auto prefixed = [&](char letter) {
    return text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == letter;
  };
  bool zero_only = false;
  bool had_prefix = true;
  if ((base == 16 || base == 0) && prefixed('x')) {
    base = 16;
  } else if ((base == 8 || base == 0) && prefixed('o')) {
    base = 8;
  } else if ((base == 2 || base == 0) && prefixed('b')) {
    base = 2;
  } else {
    had_prefix = false;
    zero_only = base == 0 && !text.empty() && text[0] == '0';
    if (base == 0) base = 10;
  }
  if (had_prefix) {
    text.remove_prefix(2);
    if (text[0] == '_') text.remove_prefix(1);
  }
  if (text.empty()) return std::nullopt;
  Integer value = 0;
  bool digit_before = false;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    i += c.size;
    if (c.code_point == '_') {
      if (!digit_before || i == text.size()) return std::nullopt;
      digit_before = false;
      continue;
    }
    std::int64_t digit = 99;
    if (c.code_point >= '0' && c.code_point <= '9') {
      digit = static_cast<std::int64_t>(c.code_point) - '0';
    } else if (c.code_point < 0x80 && is_alpha(c.code_point)) {
      digit = static_cast<std::int64_t>(c.code_point | 0x20) - 'a' + 10;
    } else if (is_decimal(c.code_point)) {
      // Decimal digits come in runs of ten that start with zero.
      char32_t zero = c.code_point;
      while (zero % 16 != 0 && is_decimal(zero - 1) && c.code_point - zero < 9) --zero;
      digit = static_cast<std::int64_t>(c.code_point - zero);
    }
    if (digit >= base || (zero_only && digit != 0)) return std::nullopt;
    digit_before = true;
    if (__builtin_mul_overflow(value, static_cast<Integer>(base), &value) ||
        __builtin_add_overflow(value, static_cast<Integer>(digit), &value)) {
      runtime.refuse("an integer exceeds 127 bits");
    }
  }
  return Value::integer(negative_sign ? -value : value);
}

/// Python's float(text).
std::optional<double> parse_float(std::string_view text) {
  text = strip_space(text, StripSide::kBoth);
  std::string clean;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto is_digit_at = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '9';
    };
    if (text[i] == '_') {
      if (i == 0 || !is_digit_at(i - 1) || !is_digit_at(i + 1)) return std::nullopt;
    } else {
      clean += text[i];
    }
  }
  const std::string lower = to_lower(clean);
  const std::string_view unsigned_text =
      std::string_view(lower).substr(!lower.empty() && (lower[0] == '-' || lower[0] == '+') ? 1 : 0);
  const bool minus = !lower.empty() && lower[0] == '-';
  if (unsigned_text == "inf" || unsigned_text == "infinity") {
    return minus ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  if (unsigned_text == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (unsigned_text.empty() || unsigned_text.find_first_not_of("0123456789.e+-") != std::string_view::npos) {
    return std::nullopt;
  }
  if (unsigned_text[0] == '+' || unsigned_text[0] == '-') return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(lower.c_str(), &end);
  if (end != lower.c_str() + lower.size()) return std::nullopt;
  return value;
}

/// int(float): nothing for NaN; infinity is told apart because it raises another error.
Value truncate_float(Runtime& runtime, double value) {
  if (std::fabs(value) >= 1.7e38) runtime.refuse("an integer exceeds 127 bits");
  return Value::integer(static_cast<Integer>(value));
}

/// Rounds half to even on the decimal digits of the binary value, as Python's round().
double round_to_digits(double value, std::int64_t digits) {
  if (!std::isfinite(value) || digits > 323) return value;
  if (digits < -308) return std::copysign(0.0, value);
  if (digits >= 0) return std::strtod(fmt::format("{:.{}f}", value, digits).c_str(), nullptr);
  const std::string text = fmt::format("{:.0f}", std::fabs(value));
  const auto dropped = static_cast<std::size_t>(-digits);
  if (dropped > text.size()) return std::copysign(0.0, value);
  std::string kept = fmt::format("0{}", text.substr(0, text.size() - dropped));
  const std::string tail = text.substr(text.size() - dropped);
  const bool exact_half =
      tail[0] == '5' && tail.find_first_not_of('0', 1) == std::string::npos && value == std::floor(value);
  const bool odd = (kept.back() - '0') % 2 != 0;
  if (tail[0] > '5' || (tail[0] == '5' && (!exact_half || odd))) {
    for (std::size_t i = kept.size(); i-- > 0;) {
      if (kept[i] != '9') {
        ++kept[i];
        break;
      }
      kept[i] = '0';
    }
  }
  return std::copysign(std::strtod((kept + std::string(dropped, '0')).c_str(), nullptr), value);
}

}  // namespace

Value filter_abs(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "abs", arguments, {}, 0);
  if (!value.is_numeric()) runtime.fail("bad operand type for abs(): '{}'", type_name(value));
  if (value.is(Kind::kFloat)) return Value::number(std::fabs(value.number()));
  return value.integral() < 0 ? negative(runtime, value) : positive(runtime, value);
}

Value filter_int(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "int", arguments, {"default", "base"}, 0);
  const Value otherwise = bound[0].is_missing() ? Value::integer(0) : bound[0];
  require_defined(runtime, value);
  if (value.is_integral()) return Value::integer(value.integral());
  if (value.is(Kind::kFloat)) {
    if (std::isinf(value.number())) runtime.fail_with("cannot convert float infinity to integer");
    return std::isnan(value.number()) ? otherwise : truncate_float(runtime, value.number());
  }
  if (!value.is_string()) return otherwise;
  bool base_is_integer = true;
  std::int64_t base = 10;
  if (!bound[1].is_missing()) {
    base_is_integer = bound[1].is_integral();
    require_defined(runtime, bound[1]);
    if (base_is_integer) base = integer_argument(runtime, bound[1], "the base");
  }
  if (base_is_integer) {
    if (const auto parsed = parse_integer(runtime, value.text(), base)) return *parsed;
  }
  const auto number = parse_float(value.text());
  if (!number || !std::isfinite(*number)) return otherwise;
  return truncate_float(runtime, *number);
}

Value filter_float(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "float", arguments, {"default"}, 0);
  require_defined(runtime, value);
  if (value.is_numeric()) return Value::number(value.as_double());
  if (value.is_string()) {
    if (const auto parsed = parse_float(value.text())) return Value::number(*parsed);
  }
  return bound[0].is_missing() ? Value::number(0.0) : bound[0];
}

Value filter_round(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "round", arguments, {"precision", "method"}, 0);
  std::string method = "common";
  if (!bound[1].is_missing()) {
    if (!hashable(bound[1])) runtime.fail("unhashable type: '{}'", type_name(bound[1]));
    method = bound[1].is_string() ? bound[1].text() : std::string();
  }
  if (method != "common" && method != "ceil" && method != "floor") {
    runtime.fail_with("method must be common, ceil or floor");
  }
  require_defined(runtime, value);
  if (!value.is_numeric()) runtime.fail("'{}' cannot be rounded", type_name(value));
  const Value precision = bound[0].is_missing() ? Value::integer(0) : bound[0];
  if (method != "common") {
    const Value scale = binary(runtime, "**", Value::integer(10), precision);
    const Value scaled = binary(runtime, "*", value, scale);
    Value whole = scaled;
    if (scaled.is(Kind::kFloat)) {
      if (!std::isfinite(scaled.number()))
        runtime.fail_with("cannot convert a float that is not finite to an integer");
      // A float this large is a whole number.
      constexpr double kWhole = 1e30;
      if (std::fabs(scaled.number()) < kWhole) {
        whole = truncate_float(runtime,
                               method == "ceil" ? std::ceil(scaled.number()) : std::floor(scaled.number()));
      }
    }
    return binary(runtime, "/", whole, scale);
  }
  if (precision.is_none() && value.is(Kind::kFloat)) {
    if (!std::isfinite(value.number()))
      runtime.fail_with("cannot convert a float that is not finite to an integer");
    return truncate_float(runtime, std::nearbyint(value.number()));
  }
  if (precision.is_none()) return Value::integer(value.integral());
  const std::int64_t digits = integer_argument(runtime, precision, "the precision of round()");
  if (value.is(Kind::kFloat)) {
    const double rounded = round_to_digits(value.number(), digits);
    if (std::isinf(rounded) && std::isfinite(value.number()))
      runtime.fail_with("rounded value too large to represent");
    return Value::number(rounded);
  }
  if (digits >= 0) return Value::integer(value.integral());
  if (digits < -37) return Value::integer(0);
  Integer unit = 1;
  for (std::int64_t i = digits; i < 0; ++i) unit *= 10;
  Integer rest = value.integral() % unit;
  Integer base = value.integral() - rest;
  if (rest < 0) {
    rest += unit;
    base -= unit;
  }
  const bool odd = (base / unit) % 2 != 0;
  if (rest * 2 > unit || (rest * 2 == unit && odd)) base += unit;
  return Value::integer(base);
}

}  // namespace sabrewing::text::jinja
