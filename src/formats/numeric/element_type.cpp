#include "formats/numeric/element_type.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "core/error.h"

namespace sabrewing::formats {
namespace {

constexpr std::uint32_t low_mask(int bits) { return bits >= 32 ? ~0u : (1u << bits) - 1; }

constexpr int bias_of(ElementType type) { return (1 << (type.exponent - 1)) - 1; }

/// Infinities and NaN take the largest exponent, as in IEEE 754.
constexpr bool has_ieee_specials(ElementType type) {
  return type.kind == ElementType::Kind::kIeee || type == kE5M2;
}

/// The code of the largest finite magnitude of a signed floating-point type.
constexpr std::uint32_t max_finite_code(ElementType type) {
  const std::uint32_t all = low_mask(type.bits - 1);
  if (has_ieee_specials(type)) return all - (1u << type.mantissa);
  return type == kE4M3 ? all - 1 : all;
}

void check(ElementType type) {
  SABREWING_CHECK(type.is_valid(), kInvalidArgument, "[element type] no such type: kind {}, {} bits, e{}m{}",
                  static_cast<int>(type.kind), type.bits, type.exponent, type.mantissa);
}

float decode_float(ElementType type, std::uint32_t code) {
  const std::uint32_t magnitude = code & low_mask(type.bits - 1);
  const bool negative = (code >> (type.bits - 1)) != 0;
  const auto exponent = static_cast<int>(magnitude >> type.mantissa);
  const std::uint32_t mantissa = magnitude & low_mask(type.mantissa);
  float value = 0;
  if (magnitude > max_finite_code(type)) {
    const bool infinite = has_ieee_specials(type) && mantissa == 0;
    value = infinite ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  } else {
    // Subnormals have the exponent of the smallest normal and no implied one.
    const std::uint32_t significand = exponent == 0 ? mantissa : mantissa | (1u << type.mantissa);
    value =
        std::ldexp(static_cast<float>(significand), std::max(exponent, 1) - bias_of(type) - type.mantissa);
  }
  return negative ? -value : value;
}

std::uint32_t encode_float(ElementType type, double value) {
  const std::uint32_t sign = std::signbit(value) ? 1u << (type.bits - 1) : 0;
  const std::uint32_t max_code = max_finite_code(type);
  if (std::isnan(value)) {
    SABREWING_CHECK(max_code != low_mask(type.bits - 1), kInvalidArgument,
                    "[element type] {} has no code for NaN", to_string(type));
    if (type.kind == ElementType::Kind::kIeee) return sign | (max_code + 1) | (1u << (type.mantissa - 1));
    return sign | low_mask(type.bits - 1);
  }
  const std::uint32_t overflow = type.kind == ElementType::Kind::kIeee ? max_code + 1 : max_code;
  if (std::isinf(value)) return sign | overflow;
  const double magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  const int bias = bias_of(type);
  const int exponent = std::max(std::ilogb(magnitude), 1 - bias);
  if (exponent > (1 << type.exponent)) return sign | overflow;
  // The significand in units of its last place. A carry out of it, or a subnormal without its implied one,
  // moves the exponent field by plain addition.
  const double significand = std::rint(std::ldexp(magnitude, type.mantissa - exponent));
  const auto field = static_cast<std::uint32_t>(exponent + bias - 1) << type.mantissa;
  const std::uint32_t code = field + static_cast<std::uint32_t>(significand);
  return sign | (code > max_code ? overflow : code);
}

std::uint32_t encode_exponent(double value) {
  if (std::isnan(value)) return 255;
  if (!(value > std::ldexp(1.0, -127))) return 0;
  if (value >= std::ldexp(1.0, 127)) return 254;
  const int exponent = std::ilogb(value);
  const bool up = std::ldexp(value, -exponent) >= 1.5;
  return static_cast<std::uint32_t>(exponent + 127 + (up ? 1 : 0));
}

std::uint32_t encode_integer(ElementType type, double value) {
  SABREWING_CHECK(!std::isnan(value), kInvalidArgument, "[element type] {} has no code for NaN",
                  to_string(type));
  const bool is_signed = type.kind == ElementType::Kind::kInt;
  const int range = 1 << type.bits;
  const double low = is_signed ? -range / 2 : 0;
  const double high = low + range - 1;
  const auto rounded = static_cast<int>(std::rint(std::clamp(value, low, high)));
  return static_cast<std::uint32_t>(rounded) & low_mask(type.bits);
}

constexpr std::array kNamed{
    std::pair{std::string_view("bf16"), kBF16},
    std::pair{std::string_view("fp16"), kFP16},
    std::pair{std::string_view("fp32"), kFP32},
    std::pair{std::string_view("float8e8m0"), kE8M0},
};
constexpr std::array kAliases{
    std::pair{std::string_view("bfloat16"), kBF16},
    std::pair{std::string_view("float16"), kFP16},
    std::pair{std::string_view("float32"), kFP32},
};

/// One decimal digit after `prefix`, which is removed with it.
std::optional<int> take_digit(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix) || text.size() == prefix.size()) return std::nullopt;
  const char digit = text[prefix.size()];
  if (digit < '0' || digit > '9') return std::nullopt;
  text.remove_prefix(prefix.size() + 1);
  return digit - '0';
}

}  // namespace

std::string to_string(ElementType type) {
  for (const auto& [name, named] : kNamed)
    if (named == type) return std::string(name);
  switch (type.kind) {
    case ElementType::Kind::kInt:
      return fmt::format("int{}", type.bits);
    case ElementType::Kind::kUInt:
      return fmt::format("uint{}", type.bits);
    default:
      return fmt::format("float{}e{}m{}", type.bits, type.exponent, type.mantissa);
  }
}

std::optional<ElementType> parse_element_type(std::string_view name) {
  for (const auto& [known, type] : kNamed)
    if (known == name) return type;
  for (const auto& [known, type] : kAliases)
    if (known == name) return type;
  std::optional<ElementType> type;
  if (name.starts_with("float")) {
    const auto bits = take_digit(name, "float");
    const auto exponent = bits ? take_digit(name, "e") : std::nullopt;
    const auto mantissa = exponent ? take_digit(name, "m") : std::nullopt;
    if (mantissa && *bits == 1 + *exponent + *mantissa) type = ElementType::minifloat(*exponent, *mantissa);
  } else if (name.starts_with("uint")) {
    if (const auto bits = take_digit(name, "uint")) type = ElementType::unsigned_integer(*bits);
  } else if (const auto bits = take_digit(name, "int")) {
    type = ElementType::integer(*bits);
  }
  return type && name.empty() && type->is_valid() ? type : std::nullopt;
}

float decode(ElementType type, std::uint32_t code) {
  check(type);
  code &= low_mask(type.bits);
  switch (type.kind) {
    case ElementType::Kind::kUInt:
      return static_cast<float>(code);
    case ElementType::Kind::kInt: {
      const std::uint32_t sign = 1u << (type.bits - 1);
      return static_cast<float>(static_cast<std::int32_t>(code ^ sign) - static_cast<std::int32_t>(sign));
    }
    case ElementType::Kind::kExponent:
      return code == 255 ? std::numeric_limits<float>::quiet_NaN()
                         : std::ldexp(1.0f, static_cast<int>(code) - 127);
    default:
      return decode_float(type, code);
  }
}

std::uint32_t encode(ElementType type, double value) {
  check(type);
  switch (type.kind) {
    case ElementType::Kind::kInt:
    case ElementType::Kind::kUInt:
      return encode_integer(type, value);
    case ElementType::Kind::kExponent:
      return encode_exponent(value);
    default:
      return encode_float(type, value);
  }
}

std::vector<float> decode_table(ElementType type) {
  SABREWING_CHECK(type.bits <= 8, kInvalidArgument, "[element type] no table of {}", to_string(type));
  std::vector<float> table(std::size_t{1} << type.bits);
  for (std::size_t code = 0; code < table.size(); ++code)
    table[code] = decode(type, static_cast<std::uint32_t>(code));
  return table;
}

float max_value(ElementType type) {
  check(type);
  switch (type.kind) {
    case ElementType::Kind::kInt:
      return decode(type, low_mask(type.bits - 1));
    case ElementType::Kind::kUInt:
      return decode(type, low_mask(type.bits));
    case ElementType::Kind::kExponent:
      return decode(type, 254);
    default:
      return decode(type, max_finite_code(type));
  }
}

}  // namespace sabrewing::formats
