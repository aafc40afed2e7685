#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sabrewing::formats {

/// How the bits of one weight, activation or scale encode a number. A value, so that a number format can
/// be described, compared and used as a template argument.
///
/// Minifloats have one sign bit, X exponent bits with bias 2^(X-1)-1 (0 for X = 1), Y mantissa bits and
/// subnormals; X >= 1, Y >= 0. Only E4M3 (the "FN" variant: NaN is 0x7f and 0xff, maximum 448) and E5M2
/// (as IEEE 754) give codes to anything but finite numbers.
struct ElementType {
  enum class Kind : std::uint8_t {
    kInt,        ///< two's complement of `bits` bits
    kUInt,       ///< unsigned of `bits` bits
    kMinifloat,  ///< 3 to 8 bits, saturating
    kIeee,       ///< BF16, FP16, FP32: with infinities and NaN
    kExponent,   ///< E8M0: 2^(code - 127), 255 is NaN; no sign and no zero
  };

  Kind kind = Kind::kIeee;
  std::uint8_t bits = 32;
  std::uint8_t exponent = 8;   ///< exponent bits; 0 for integers
  std::uint8_t mantissa = 23;  ///< stored mantissa bits; 0 for integers

  static constexpr ElementType integer(int bits) {
    return {Kind::kInt, static_cast<std::uint8_t>(bits), 0, 0};
  }
  static constexpr ElementType unsigned_integer(int bits) {
    return {Kind::kUInt, static_cast<std::uint8_t>(bits), 0, 0};
  }
  static constexpr ElementType minifloat(int exponent, int mantissa) {
    return {Kind::kMinifloat, static_cast<std::uint8_t>(1 + exponent + mantissa),
            static_cast<std::uint8_t>(exponent), static_cast<std::uint8_t>(mantissa)};
  }

  constexpr bool is_integer() const { return kind == Kind::kInt || kind == Kind::kUInt; }
  /// One of the types described above, with a width that `decode` and `encode` accept.
  constexpr bool is_valid() const {
    switch (kind) {
      case Kind::kInt:
      case Kind::kUInt:
        return bits >= 1 && bits <= 8 && exponent == 0 && mantissa == 0;
      case Kind::kMinifloat:
        return bits >= 3 && bits <= 8 && exponent >= 1 && bits == 1 + exponent + mantissa;
      case Kind::kIeee:
        return (bits == 16 && exponent == 5 && mantissa == 10) ||
               (exponent == 8 && bits == 9 + mantissa && (mantissa == 7 || mantissa == 23));
      case Kind::kExponent:
        return bits == 8 && exponent == 8 && mantissa == 0;
    }
    return false;
  }
  constexpr bool operator==(const ElementType&) const = default;
};

constexpr ElementType kE2M1 = ElementType::minifloat(2, 1);
constexpr ElementType kE3M2 = ElementType::minifloat(3, 2);
constexpr ElementType kE2M3 = ElementType::minifloat(2, 3);
constexpr ElementType kE4M3 = ElementType::minifloat(4, 3);
constexpr ElementType kE5M2 = ElementType::minifloat(5, 2);
constexpr ElementType kE8M0 = {ElementType::Kind::kExponent, 8, 8, 0};
constexpr ElementType kBF16 = {ElementType::Kind::kIeee, 16, 8, 7};
constexpr ElementType kFP16 = {ElementType::Kind::kIeee, 16, 5, 10};
constexpr ElementType kFP32 = {ElementType::Kind::kIeee, 32, 8, 23};

/// "int4", "uint3", "float4e2m1", "float8e8m0" (the scale type), "bf16", "fp16", "fp32".
std::string to_string(ElementType type);

/// The inverse of `to_string`; also "float16", "bfloat16" and "float32". Nothing for an unknown name.
std::optional<ElementType> parse_element_type(std::string_view name);

/// The exact value of a code: every type's values are exact in FP32. Only the low `bits` bits are read.
float decode(ElementType type, std::uint32_t code);

/// The code of the nearest value, ties to even; types without mantissa bits, where every value's
/// significand is 1, break ties between two non-zero values to the larger, as IEEE 754-2019 section 4.3.1
/// says.
/// - Beyond the range: integers, minifloats and E8M0 saturate, infinities included (so that E5M2's
///   infinities are decoded but never produced); BF16, FP16 and FP32 go to infinity as in IEEE 754.
/// - NaN: the quiet NaN code with the sign of the input where the type has one (E4M3 and E5M2: low 7 bits
///   all ones); else throws `Error{kInvalidArgument}`.
/// - E8M0: zero and negative values saturate to code 0.
std::uint32_t encode(ElementType type, double value);

/// `decode` of all 2^bits codes of a type of at most 8 bits.
std::vector<float> decode_table(ElementType type);

/// Largest finite value.
float max_value(ElementType type);

}  // namespace sabrewing::formats
