#pragma once

// What device code of the decoders needs to be compiled for the host: the intrinsics it uses, by their
// definitions in the PTX manual. Include before device headers.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "formats/numeric/element_type.h"
#include "formats/numeric/float16.h"

#define __device__
#define __forceinline__ inline

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }

inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((static_cast<std::uint64_t>(high) << 32 | low) << (shift & 31)) >> 32);
}

/// prmt.b32: four selector nibbles; bit 3 of one replicates the byte's sign.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(b) << 32 | a;
  unsigned out = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned select = selector >> (4 * i) & 15;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (select & 7))) & 0xff;
    if (select & 8) byte = byte & 0x80 ? 0xff : 0;
    out |= byte << (8 * i);
  }
  return out;
}

namespace sabrewing::device {

using std::max;
using std::min;

template <int kWords>
inline void load_words(const void* from, std::uint32_t* out) {
  std::memcpy(out, from, std::size_t{kWords} * 4);
}
template <int kWords>
inline void store_words(void* to, const std::uint32_t* words) {
  std::memcpy(to, words, std::size_t{kWords} * 4);
}

namespace shim {

/// a * b + c rounded to odd, so that rounding it again to 11 bits or fewer rounds only once. a * b is exact.
inline double fma_to_odd(double a, double b, double c) {
  const double product = a * b;
  const double sum = product + c;
  const double back = sum - product;
  const double error = (product - (sum - back)) + (c - back);
  if (error == 0 || (std::bit_cast<std::uint64_t>(sum) & 1) != 0) return sum;
  return std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
}

inline std::uint32_t fma2(formats::ElementType type, std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t out = 0;
  for (int half = 0; half < 32; half += 16)
    out |= formats::encode(type, fma_to_odd(formats::decode(type, a >> half & 0xffff),
                                            formats::decode(type, b >> half & 0xffff),
                                            formats::decode(type, c >> half & 0xffff)))
           << half;
  return out;
}

}  // namespace shim

inline std::uint32_t fma_bf16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  return shim::fma2(formats::kBF16, a, b, c);
}
inline std::uint32_t multiply_bf16x2(std::uint32_t a, std::uint32_t b) {
  return fma_bf16x2(a, b, 0x80008000);
}
inline std::uint32_t fma_f16x2(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  return shim::fma2(formats::kFP16, a, b, c);
}
inline std::uint32_t multiply_f16x2(std::uint32_t a, std::uint32_t b) { return fma_f16x2(a, b, 0x80008000); }
inline float f16_to_float(std::uint32_t code) {
  return formats::fp16_to_float(static_cast<std::uint16_t>(code));
}

namespace shim {

/// Of magnitudes, whose codes are in the order of their values with NaN above all.
inline std::uint32_t larger_halves(std::uint32_t a, std::uint32_t b) {
  return std::max(a & 0xffff, b & 0xffff) | std::max(a >> 16, b >> 16) << 16;
}
inline std::uint32_t to_fp8x2(formats::ElementType type, float low, float high) {
  return formats::encode(type, low) | formats::encode(type, high) << 8;
}

}  // namespace shim

inline std::uint32_t max_nan_bf16x2(std::uint32_t a, std::uint32_t b) { return shim::larger_halves(a, b); }
inline std::uint32_t max_nan_f16x2(std::uint32_t a, std::uint32_t b) { return shim::larger_halves(a, b); }
inline std::uint32_t to_e4m3x2(float low, float high) { return shim::to_fp8x2(formats::kE4M3, low, high); }
inline std::uint32_t to_e5m2x2(float low, float high) { return shim::to_fp8x2(formats::kE5M2, low, high); }
inline std::uint32_t float_to_f16(float x) { return formats::encode(formats::kFP16, x); }
inline std::uint32_t byte_signs(std::uint32_t a) { return __byte_perm(a, a, 0xba98); }

}  // namespace sabrewing::device
