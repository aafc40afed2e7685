#pragma once

#include <bit>
#include <cstdint>

namespace sabrewing::formats {

/// Exact. NaN keeps its sign and payload.
inline float bf16_to_float(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

/// Round to nearest, ties to even; overflow goes to infinity; NaN keeps its sign and upper payload, quiet.
inline std::uint16_t float_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
  return static_cast<std::uint16_t>(is_nan ? (bits >> 16) | 0x40 : rounded);
}

/// Exact. NaN keeps its sign and payload.
inline float fp16_to_float(std::uint16_t bits) {
  constexpr std::uint32_t kRebias = (127 - 15) << 23;
  const std::uint32_t magnitude = std::uint32_t{bits & 0x7fffu} << 13;
  std::uint32_t result = magnitude + kRebias;
  if (magnitude >= (31u << 23)) {
    result += kRebias;
  } else if (magnitude < (1u << 23)) {
    // A subnormal's significand below an implied one, which the subtraction takes away again.
    constexpr std::uint32_t kSmallestNormal = kRebias + (1u << 23);
    result = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude + kSmallestNormal) -
                                          std::bit_cast<float>(kSmallestNormal));
  }
  return std::bit_cast<float>(result | std::uint32_t{bits & 0x8000u} << 16);
}

/// Round to nearest, ties to even; overflow goes to infinity; NaN keeps its sign and upper payload, quiet.
inline std::uint16_t float_to_fp16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & 0x7fffffff;
  std::uint32_t result = 0;
  if (magnitude > 0x7f800000) {
    result = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  } else if (magnitude >= 0x47800000) {
    result = 0x7c00;  // 2^16; what rounds up to it reaches the same code by its carry
  } else if (magnitude < 0x38800000) {
    // Below 2^-14: adding 0.5 leaves the significand, rounded by the addition, in units of 2^-24.
    result = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
  } else {
    const std::uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    result = (rounded - ((127 - 15) << 23)) >> 13;
  }
  return static_cast<std::uint16_t>(sign | result);
}

}  // namespace sabrewing::formats
