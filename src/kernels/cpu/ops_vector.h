#pragma once

// Vectors of the width that this translation unit is compiled for, and the exponential on them. Everything
// has internal linkage and calls no inline function of another header: code compiled for one tier must never
// be merged by the linker with that of another.

#include <cstdint>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sabrewing::kernels::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using Floats [[gnu::vector_size(kLanes * 4)]] = float;
using Ints [[gnu::vector_size(kLanes * 4)]] = std::int32_t;
using Words [[gnu::vector_size(kLanes * 4)]] = std::uint32_t;
using Halves [[gnu::vector_size(kLanes * 2)]] = std::uint16_t;
using Lanes = std::make_integer_sequence<int, kLanes>;

constexpr float kInfinity = __builtin_inff();

inline Floats load(const float* from) {
  Floats v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

inline void store(float* to, Floats v) { __builtin_memcpy(to, &v, sizeof(v)); }

/// The first `count` < kLanes values; the other lanes are 0.
inline Floats load_part(const float* from, std::int64_t count) {
  Floats v = {};
  __builtin_memcpy(&v, from, static_cast<std::size_t>(count) * sizeof(float));
  return v;
}

inline void store_part(float* to, Floats v, std::int64_t count) {
  __builtin_memcpy(to, &v, static_cast<std::size_t>(count) * sizeof(float));
}

template <int... kIndex>
inline Floats splat_lanes(float x, std::integer_sequence<int, kIndex...>) {
  return Floats{(static_cast<void>(kIndex), x)...};
}
inline Floats splat(float x) { return splat_lanes(x, Lanes{}); }

template <int... kIndex>
inline Ints iota_lanes(std::integer_sequence<int, kIndex...>) {
  return Ints{kIndex...};
}
inline Ints iota() { return iota_lanes(Lanes{}); }

/// a * b + c, rounded once where the tier has the instruction.
inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline Floats maximum(Floats a, Floats b) { return a > b ? a : b; }

/// Sum of the lanes, always in the same order.
inline float lane_sum(Floats v) {
  float part[kLanes];
  store(part, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) part[i] += part[i + width];
  return part[0];
}

inline float lane_maximum(Floats v) {
  float part[kLanes];
  store(part, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) part[i] = part[i] > part[i + width] ? part[i] : part[i + width];
  return part[0];
}

/// bfloat16 to float, exact.
inline Floats load_bf16(const std::uint16_t* from) {
  Halves bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return (Floats)(__builtin_convertvector(bits, Words) << 16);
}

/// e^x within 2 units in the last place; 0 below ln 2^-126, infinity above the largest finite result.
/// Cody and Waite reduction, minimax polynomial of degree 7 (coefficients of Moshier's Cephes expf).
inline Floats exp_lanes(Floats x) {
  constexpr float kLow = -87.3365402f;
  constexpr float kHigh = 88.7228317f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: the sum's low bits are the nearest integer
  Floats c = x < kLow ? splat(kLow) : x;
  c = c > kHigh ? splat(kHigh) : c;
  const Floats shifted = multiply_add(c, splat(1.44269504f), splat(kRound));
  const Ints n = (Ints)shifted - 0x4B400000;
  const Floats whole = shifted - kRound;
  Floats r = multiply_add(whole, splat(-0.693359375f), c);
  r = multiply_add(whole, splat(2.12194440e-4f), r);
  Floats p = splat(1.9875691500e-4f);
  p = multiply_add(p, r, splat(1.3981999507e-3f));
  p = multiply_add(p, r, splat(8.3334519073e-3f));
  p = multiply_add(p, r, splat(4.1665795894e-2f));
  p = multiply_add(p, r, splat(1.6666665459e-1f));
  p = multiply_add(p, r, splat(5.0000001201e-1f));
  p = multiply_add(p, r * r, r) + 1.0f;
  // Two factors, because 2^128 has no float.
  const Ints half = n >> 1;
  p = p * (Floats)((Words)(half + 127) << 23) * (Floats)((Words)(n - half + 127) << 23);
  p = x < kLow ? Floats{} : p;
  return x > kHigh ? splat(kInfinity) : p;
}

template <int kFirst, int... kIndex>
inline Floats interleave(Floats a, Floats b, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (kFirst + kIndex / 2 + (kIndex % 2) * kLanes)...);
}

/// Transposes the square of kLanes vectors.
inline void transpose(Floats (&rows)[kLanes]) {
  for (int stage = 1; stage < kLanes; stage *= 2) {
    Floats next[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave<0>(rows[i], rows[i + kLanes / 2], Lanes{});
      next[2 * i + 1] = interleave<kLanes / 2>(rows[i], rows[i + kLanes / 2], Lanes{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

}  // namespace
}  // namespace sabrewing::kernels::cpu
