// Python's two ways to format strings: the % operator and str.format.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>

#include "text/jinja_builtins.h"
#include "text/jinja_ops.h"
#include "text/jinja_unicode.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

/// Widths and precisions past this are refused before anything is built.
constexpr std::int64_t kMaxWidth = 1 << 20;
constexpr int kMaxFloatPrecision = 400;

struct Spec {
  std::string fill = " ";
  char align = 0;  ///< one of <>=^, or zero for the type's own
  char sign = '-';
  bool alternate = false;
  std::int64_t width = 0;
  char grouping = 0;
  std::int64_t precision = -1;
  char type = 0;
};

std::string pad(Runtime& runtime, std::string text, const Spec& spec, char default_align) {
  const std::size_t length = count_code_points(text);
  const auto width = static_cast<std::size_t>(spec.width);
  if (length >= width) return text;
  const std::size_t missing = width - length;
  runtime.reserve_product(spec.fill.size(), missing);
  const char align = spec.align != 0 ? spec.align : default_align;
  std::size_t left = align == '>' ? missing : align == '^' ? missing / 2 : 0;
  std::size_t inside = 0;
  if (align == '=') {
    left = 0;
    inside = missing;
  }
  std::string out;
  for (std::size_t i = 0; i < left; ++i) out += spec.fill;
  if (inside != 0) {
    std::size_t prefix = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ') ? 1 : 0;
    if (spec.alternate && text.size() > prefix + 1 && text[prefix] == '0' &&
        std::string_view("xXoObB").find(text[prefix + 1]) != std::string_view::npos) {
      prefix += 2;
    }
    out += text.substr(0, prefix);
    for (std::size_t i = 0; i < inside; ++i) out += spec.fill;
    return out + text.substr(prefix);
  }
  out += text;
  for (std::size_t i = left; i < missing; ++i) out += spec.fill;
  return out;
}

std::string group_digits(const std::string& digits, char separator, std::size_t every) {
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % every == 0) out += separator;
    out += digits[i];
  }
  return out;
}

std::string with_sign(bool negative, char sign) {
  if (negative) return "-";
  return sign == '+' ? "+" : sign == ' ' ? " " : "";
}

std::string digits_in_base(Integer value, int base, bool upper) {
  Magnitude rest = value < 0 ? -static_cast<Magnitude>(value) : static_cast<Magnitude>(value);
  if (rest == 0) return "0";
  std::string out;
  for (; rest != 0; rest /= static_cast<unsigned>(base)) {
    out += (upper ? "0123456789ABCDEF"
                  : "0123456789abcdef")[static_cast<std::size_t>(rest % static_cast<unsigned>(base))];
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::string c_format(double value, char type, int precision, bool alternate) {
  char pattern[16];
  std::snprintf(pattern, sizeof(pattern), "%%%s.*%c", alternate ? "#" : "", type);
  char buffer[1024];
  const int size = std::snprintf(buffer, sizeof(buffer), pattern, precision, value);
  return std::string(buffer, static_cast<std::size_t>(std::min(size, static_cast<int>(sizeof(buffer)) - 1)));
}

/// The magnitude of a float as the type and precision ask.
std::string float_digits(Runtime& runtime, double magnitude, char type, std::int64_t precision,
                         bool alternate) {
  if (precision > kMaxFloatPrecision) runtime.fail("a precision of more than {} digits", kMaxFloatPrecision);
  const int digits = precision < 0 ? 6 : static_cast<int>(precision);
  if (!std::isfinite(magnitude)) {
    const std::string text = std::isnan(magnitude) ? "nan" : "inf";
    return type == 'E' || type == 'F' || type == 'G' ? to_upper(text) : text;
  }
  if (type == '%') return c_format(magnitude * 100.0, 'f', digits, alternate) + "%";
  if (type == 'n') type = 'g';
  if (type != 0) return c_format(magnitude, type, digits, alternate);
  if (precision < 0) return float_repr(magnitude);
  // Like 'g', but with at least one digit after the point, and exponents from one place earlier.
  std::string text = c_format(magnitude, 'e', std::max(digits, 1) - 1, false);
  const int exponent = std::atoi(text.c_str() + text.find('e') + 1);
  if (exponent < -4 || exponent >= std::max(digits, 1) - (std::max(digits, 1) > 1 ? 1 : 0)) {
    std::string mantissa = text.substr(0, text.find('e'));
    if (mantissa.find('.') != std::string::npos) {
      mantissa.erase(mantissa.find_last_not_of('0') + 1);
      if (mantissa.back() == '.') mantissa.pop_back();
    }
    return mantissa + text.substr(text.find('e'));
  }
  std::string out = c_format(magnitude, 'g', std::max(digits, 1), false);
  if (out.find('.') == std::string::npos && out.find('e') == std::string::npos) out += ".0";
  return out;
}

std::string format_integer(Runtime& runtime, Integer value, const Spec& spec) {
  int base = 10;
  if (spec.type == 'x' || spec.type == 'X') base = 16;
  if (spec.type == 'o') base = 8;
  if (spec.type == 'b') base = 2;
  std::string digits = digits_in_base(value, base, spec.type == 'X');
  const std::size_t every = base == 10 ? 3 : 4;
  std::string prefix = with_sign(value < 0, spec.sign);
  if (spec.alternate && base != 10) prefix += std::string("0") + spec.type;
  if (spec.grouping != 0) {
    if (spec.align == '=' && spec.fill == "0") {
      // Zero padding takes part in the grouping.
      const auto wanted = static_cast<std::size_t>(spec.width);
      runtime.reserve(wanted);
      while (prefix.size() + group_digits(digits, spec.grouping, every).size() < wanted) {
        runtime.step(digits.size());
        digits.insert(digits.begin(), '0');
      }
    }
    digits = group_digits(digits, spec.grouping, every);
  }
  return pad(runtime, prefix + digits, spec, '>');
}

std::string format_float(Runtime& runtime, double value, const Spec& spec) {
  std::string digits = float_digits(runtime, std::fabs(value), spec.type, spec.precision, spec.alternate);
  if (spec.grouping != 0 && std::isfinite(value)) {
    std::size_t whole = 0;
    while (whole < digits.size() && digits[whole] >= '0' && digits[whole] <= '9') ++whole;
    digits = group_digits(digits.substr(0, whole), spec.grouping, 3) + digits.substr(whole);
  }
  return pad(runtime, with_sign(std::signbit(value) && !std::isnan(value), spec.sign) + digits, spec, '>');
}

std::string truncate_text(const std::string& text, std::int64_t precision) {
  if (precision < 0) return text;
  return text.substr(0, byte_of_code_point(text, static_cast<std::size_t>(precision)));
}

std::int64_t parse_width(Runtime& runtime, std::string_view text, std::size_t& i) {
  std::int64_t value = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    value = value * 10 + (text[i] - '0');
    if (value > kMaxWidth) runtime.fail("a format width of more than {}", kMaxWidth);
  }
  return value;
}

Spec parse_spec(Runtime& runtime, std::string_view text) {
  Spec spec;
  std::size_t i = 0;
  const auto at = [&](std::size_t position) { return position < text.size() ? text[position] : '\0'; };
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '=' || c == '^'; };
  if (!text.empty()) {
    const std::size_t first = next_char(text, 0).size;
    if (is_align(at(first))) {
      spec.fill = std::string(text.substr(0, first));
      spec.align = text[first];
      i = first + 1;
    } else if (is_align(text[0])) {
      spec.align = text[0];
      i = 1;
    }
  }
  if (at(i) == '+' || at(i) == '-' || at(i) == ' ') spec.sign = text[i++];
  if (at(i) == '#') {
    spec.alternate = true;
    ++i;
  }
  if (at(i) == '0') {
    if (spec.align == 0) {
      spec.fill.assign(1, '0');
      spec.align = '=';
    }
    ++i;
  }
  spec.width = parse_width(runtime, text, i);
  if (at(i) == ',' || at(i) == '_') spec.grouping = text[i++];
  if (at(i) == '.') {
    ++i;
    if (at(i) < '0' || at(i) > '9') runtime.fail("format specifier misses the precision");
    spec.precision = parse_width(runtime, text, i);
  }
  if (i < text.size()) spec.type = text[i++];
  if (i < text.size()) runtime.fail("invalid format specifier {}", string_repr(text));
  return spec;
}

std::string format_value(Runtime& runtime, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return str(runtime, value);
  if (!value.is_string() && !value.is_numeric()) {
    runtime.fail("unsupported format string passed to {}.__format__", type_name(value));
  }
  Spec spec = parse_spec(runtime, spec_text);
  const auto is_one_of = [&](std::string_view types) {
    return types.find(spec.type) != std::string_view::npos;
  };
  if (value.is_string()) {
    if ((spec.type != 0 && spec.type != 's') || spec.align == '=' || spec.grouping != 0 || spec.alternate ||
        spec.sign != '-') {
      // A zero before the width pads strings on the right.
      if (spec.type != 0 && spec.type != 's')
        runtime.fail("unknown format code for a string: {}", string_repr(spec_text));
      const bool zero_flag =
          spec.align == '=' && spec.fill == "0" && spec_text.find('=') == std::string_view::npos;
      if (!zero_flag || spec.grouping != 0 || spec.alternate || spec.sign != '-') {
        runtime.fail("invalid format specifier for a string: {}", string_repr(spec_text));
      }
      spec.align = '<';
    }
    return pad(runtime, truncate_text(value.text(), spec.precision), spec, '<');
  }
  if (value.is_integral() && (spec.type == 0 || is_one_of("dboxXn"))) {
    if (spec.precision >= 0) runtime.fail("precision not allowed in integer format specifier");
    if (spec.grouping == ',' && is_one_of("boxX")) runtime.fail("',' cannot be combined with this type");
    return format_integer(runtime, value.integral(), spec);
  }
  if (value.is_integral() && spec.type == 'c') runtime.refuse("format type 'c' is not supported");
  if (spec.type == 0 || is_one_of("eEfFgGn%")) return format_float(runtime, value.as_double(), spec);
  runtime.fail("unknown format code '{}' for a number", spec.type);
}

std::string convert(Runtime& runtime, const Value& value, char conversion) {
  if (conversion == 's') return str(runtime, value);
  std::string text = repr(runtime, value);
  if (conversion == 'r') return text;
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    const auto code = static_cast<std::uint32_t>(c.code_point);
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x100) {
      out += fmt::format("\\x{:02x}", code);
    } else if (code < 0x10000) {
      out += fmt::format("\\u{:04x}", code);
    } else {
      out += fmt::format("\\U{:08x}", code);
    }
    i += c.size;
  }
  return out;
}

/// One pass of str.format; fields inside specifiers are formatted first.
class BraceFormatter {
 public:
  BraceFormatter(Runtime& runtime, const Arguments& arguments, bool markup)
      : runtime_(runtime), arguments_(arguments), markup_(markup) {}

  std::string run(std::string_view format, int levels) {
    if (levels == 0) runtime_.fail_with("Max string recursion exceeded");
    std::string out;
    for (std::size_t i = 0; i < format.size();) {
      const char c = format[i];
      if (c != '{' && c != '}') {
        out += c;
        ++i;
        continue;
      }
      if (i + 1 < format.size() && format[i + 1] == c) {
        out += c;
        i += 2;
        continue;
      }
      if (c == '}') runtime_.fail_with("Single '}' encountered in format string");
      int depth = 1;
      std::size_t end = i + 1;
      for (; end < format.size(); ++end) {
        if (format[end] == '{') ++depth;
        if (format[end] == '}' && --depth == 0) break;
      }
      if (depth != 0) runtime_.fail_with("expected '}' before end of string");
      out += field(format.substr(i + 1, end - i - 1), levels);
      runtime_.reserve(out.size() / 16);
      i = end + 1;
    }
    return out;
  }

 private:
  std::string field(std::string_view text, int levels) {
    // The name ends at the first '!' or ':' outside brackets.
    std::size_t end = 0;
    for (bool bracket = false; end < text.size(); ++end) {
      if (text[end] == '[') bracket = true;
      if (text[end] == ']') bracket = false;
      if (!bracket && (text[end] == '!' || text[end] == ':')) break;
      if (text[end] == '{') runtime_.fail_with("unexpected '{' in field name");
    }
    Value value = lookup(text.substr(0, end));
    text.remove_prefix(end);
    std::string converted;
    bool is_converted = false;
    if (!text.empty() && text[0] == '!') {
      if (text.size() < 2 || (text.size() > 2 && text[2] != ':'))
        runtime_.fail_with("invalid conversion in format string");
      if (std::string_view("sra").find(text[1]) == std::string_view::npos) {
        runtime_.fail("unknown conversion specifier '{}'", text[1]);
      }
      converted = convert(runtime_, value, text[1]);
      is_converted = true;
      text.remove_prefix(2);
    }
    const std::string spec = text.empty() ? std::string() : run(text.substr(1), levels - 1);
    if (is_converted) value = runtime_.string(std::move(converted));
    if (!markup_) return format_value(runtime_, value, spec);
    if (value.is_markup() && !spec.empty()) runtime_.fail_with("format specifier for an escaped string");
    return escape_html(runtime_,
                       value.is_markup() ? value : runtime_.string(format_value(runtime_, value, spec)));
  }

  Value lookup(std::string_view name) {
    const std::size_t end = std::min(name.find_first_of(".["), name.size());
    note_numbering(name);
    Value value = name.empty() ? positional(next_++) : argument(name.substr(0, end));
    name.remove_prefix(end);
    while (!name.empty()) {
      if (name[0] == '.') {
        const std::size_t stop = std::min(name.find_first_of(".[", 1), name.size());
        const std::string_view part = name.substr(1, stop - 1);
        if (part.empty()) runtime_.fail_with("empty attribute in format string");
        value = get_attribute(runtime_, value, runtime_.string(part));
        name.remove_prefix(stop);
      } else if (name[0] == '[') {
        const std::size_t stop = name.find(']');
        if (stop == std::string_view::npos) runtime_.fail_with("Missing ']' in format string");
        const std::string_view part = name.substr(1, stop - 1);
        if (part.empty()) runtime_.fail_with("empty attribute in format string");
        value = get_item(runtime_, value, key(part));
        name.remove_prefix(stop + 1);
      } else {
        runtime_.fail_with("Only '.' or '[' may follow ']' in format field specifier");
      }
    }
    return value;
  }

  static std::optional<std::size_t> number(std::string_view text) {
    if (text.empty() || text.size() > 9) return std::nullopt;
    std::size_t value = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return std::nullopt;
      value = value * 10 + static_cast<std::size_t>(c - '0');
    }
    return value;
  }

  Value key(std::string_view part) {
    if (const auto index = number(part)) return Value::integer(static_cast<Integer>(*index));
    return runtime_.string(part);
  }

  /// Fields without any name and fields that are a number do not go together.
  void note_numbering(std::string_view name) {
    if (name.empty()) automatic_ = true;
    if (number(name)) manual_ = true;
    if (automatic_ && manual_) runtime_.fail_with("automatic and manual field numbering cannot be mixed");
  }

  Value positional(std::size_t index) {
    if (index >= arguments_.positional.size())
      runtime_.fail_with("format() has too few positional arguments");
    return arguments_.positional[index];
  }

  Value argument(std::string_view name) {
    if (const auto index = number(name)) return positional(*index);
    for (const auto& [known, value] : arguments_.named) {
      if (known == name) return value;
    }
    runtime_.fail("format() has no argument {}", string_repr(name));
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  bool markup_;
  std::size_t next_ = 0;
  bool automatic_ = false;
  bool manual_ = false;
};

class PercentFormatter {
 public:
  PercentFormatter(Runtime& runtime, const Value& arguments, bool markup)
      : runtime_(runtime), arguments_(arguments), markup_(markup) {}

  std::string run(std::string_view format) {
    std::string out;
    for (std::size_t i = 0; i < format.size();) {
      if (format[i] != '%') {
        out += format[i++];
        continue;
      }
      ++i;
      out += directive(format, i);
      runtime_.reserve(out.size() / 16);
    }
    const bool mapping = arguments_.is(Kind::kDict) || arguments_.is(Kind::kList) ||
                         arguments_.is_undefined() || arguments_.is(Kind::kRange);
    const std::size_t given = arguments_.is(Kind::kTuple) ? arguments_.items().size() : 1;
    if (!mapping && used_ < given) runtime_.fail_with("not all arguments converted during string formatting");
    return out;
  }

 private:
  Value next_argument() {
    const std::size_t given = arguments_.is(Kind::kTuple) ? arguments_.items().size() : 1;
    if (used_ >= given) runtime_.fail_with("not enough arguments for format string");
    return arguments_.is(Kind::kTuple) ? arguments_.items()[used_++] : (++used_, arguments_);
  }

  char peek(std::string_view format, std::size_t i) const {
    if (i >= format.size()) runtime_.fail_with("incomplete format");
    return format[i];
  }

  std::int64_t width(std::string_view format, std::size_t& i) {
    if (peek(format, i) != '*') return parse_width(runtime_, format, i);
    ++i;
    const std::int64_t value = integer_argument(runtime_, next_argument(), "* in a format");
    if (value > kMaxWidth || value < -kMaxWidth) runtime_.fail("a format width of more than {}", kMaxWidth);
    return value;
  }

  std::string directive(std::string_view format, std::size_t& i) {
    Value keyed;
    if (peek(format, i) == '(') {
      std::size_t end = i + 1;
      for (int depth = 1; depth > 0; ++end) {
        const char c = peek(format, end);
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      }
      if (!arguments_.is(Kind::kDict)) runtime_.fail_with("format requires a mapping");
      const std::string_view name = format.substr(i + 1, end - i - 2);
      const Value* found = arguments_.as<Dict>().find(name);
      if (found == nullptr) runtime_.fail("format has no key {}", string_repr(name));
      keyed = *found;
      i = end;
    }
    Spec spec;
    bool left = false;
    bool zero = false;
    for (;; ++i) {
      const char flag = peek(format, i);
      if (flag == '-') {
        left = true;
      } else if (flag == '+') {
        spec.sign = '+';
      } else if (flag == ' ') {
        if (spec.sign != '+') spec.sign = ' ';
      } else if (flag == '#') {
        spec.alternate = true;
      } else if (flag == '0') {
        zero = true;
      } else {
        break;
      }
    }
    spec.width = width(format, i);
    if (spec.width < 0) {
      left = true;
      spec.width = -spec.width;
    }
    if (peek(format, i) == '.') {
      ++i;
      spec.precision = std::max<std::int64_t>(width(format, i), 0);
    }
    while (std::string_view("hlL").find(peek(format, i)) != std::string_view::npos) ++i;
    spec.type = peek(format, i);
    i += next_char(format, i).size;
    if (spec.type == '%') return "%";
    const Value value = keyed.is_missing() ? next_argument() : keyed;
    spec.align = left ? '<' : '>';
    return convert_value(value, spec, zero && !left);
  }

  std::string convert_value(const Value& value, const Spec& spec, bool zero) {
    switch (spec.type) {
      case 's':
      case 'r':
      case 'a': {
        std::string text = convert(runtime_, value, spec.type);
        if (markup_)
          text =
              spec.type == 's' ? escape_html(runtime_, value) : escape_html(runtime_, runtime_.string(text));
        return pad(runtime_, truncate_text(text, spec.precision), spec, '>');
      }
      case 'c':
        return pad(runtime_, character(value), spec, '>');
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return integer(value, spec, zero);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        return floating(value, spec, zero);
      default:
        runtime_.fail("unsupported format character '{}'", std::string(1, spec.type));
    }
  }

  std::string character(const Value& value) {
    if (value.is_string() && value.as<String>().length == 1) return value.text();
    if (!value.is_integral()) runtime_.fail_with("%c requires an integer or a character");
    const Integer code = value.integral();
    if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
      runtime_.fail_with("%c argument out of range");
    std::string out;
    append_utf8(out, static_cast<char32_t>(code));
    return out;
  }

  std::string integer(const Value& value, Spec spec, bool zero) {
    require_defined(runtime_, value);
    const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    if (!value.is_numeric() || (!decimal && value.is(Kind::kFloat))) {
      runtime_.fail("%{} format: a number is required, not {}", std::string(1, spec.type), type_name(value));
    }
    Integer number = value.is_integral() ? value.integral() : 0;
    if (value.is(Kind::kFloat)) {
      const double whole = std::trunc(value.number());
      if (!std::isfinite(whole))
        runtime_.fail_with("cannot convert a float that is not finite to an integer");
      if (std::fabs(whole) >= 1e38) runtime_.refuse("an integer exceeds 127 bits");
      number = static_cast<Integer>(whole);
    }
    const int base = decimal ? 10 : spec.type == 'o' ? 8 : 16;
    std::string digits = digits_in_base(number, base, spec.type == 'X');
    if (spec.precision > static_cast<std::int64_t>(digits.size())) {
      runtime_.reserve(static_cast<std::size_t>(spec.precision));
      digits = std::string(static_cast<std::size_t>(spec.precision) - digits.size(), '0').append(digits);
    }
    std::string prefix = with_sign(number < 0, spec.sign);
    if (spec.alternate && base != 10) prefix += std::string("0") + spec.type;
    if (zero) {
      spec.fill.assign(1, '0');
      spec.align = '=';
    }
    return pad(runtime_, prefix + digits, spec, '>');
  }

  std::string floating(const Value& value, Spec spec, bool zero) {
    require_defined(runtime_, value);
    if (!value.is_numeric()) runtime_.fail("must be real number, not {}", type_name(value));
    const double number = value.as_double();
    const std::string digits =
        float_digits(runtime_, std::fabs(number), spec.type, spec.precision, spec.alternate);
    if (zero) {
      spec.fill.assign(1, '0');
      spec.align = '=';
    }
    return pad(runtime_, with_sign(std::signbit(number) && !std::isnan(number), spec.sign) + digits, spec,
               '>');
  }

  Runtime& runtime_;
  const Value& arguments_;
  bool markup_;
  std::size_t used_ = 0;
};

}  // namespace

Value format_percent(Runtime& runtime, const Value& format, const Value& arguments) {
  std::string out = PercentFormatter(runtime, arguments, format.is_markup()).run(format.text());
  return runtime.string(std::move(out), format.is_markup());
}

Value format_braces(Runtime& runtime, const Value& format, const Arguments& arguments) {
  std::string out = BraceFormatter(runtime, arguments, format.is_markup()).run(format.text(), 2);
  return runtime.string(std::move(out), format.is_markup());
}

}  // namespace sabrewing::text::jinja
