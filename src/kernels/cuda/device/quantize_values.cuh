#pragma once
// Quantization of eight 16-bit activations at a time, as formats/quantize/activations.h defines it. Nothing
// here knows of threads: a test runs it on the host.

#include "arith.cuh"

namespace sabrewing::device {

struct Bf16Input {
  static constexpr u32 kInfinity = 0x7f80;
  /// Of magnitudes in both halves, a NaN above everything.
  SW_DEVICE static u32 larger(u32 a, u32 b) { return max_nan_bf16x2(a, b); }
  SW_DEVICE static float low(u32 x) { return __uint_as_float(x << 16); }
  SW_DEVICE static float high(u32 x) { return __uint_as_float(x & 0xffff0000u); }
};
struct F16Input {
  static constexpr u32 kInfinity = 0x7c00;
  SW_DEVICE static u32 larger(u32 a, u32 b) { return max_nan_f16x2(a, b); }
  SW_DEVICE static float low(u32 x) { return f16_to_float(x & 0xffff); }
  SW_DEVICE static float high(u32 x) { return f16_to_float(x >> 16); }
};

// Elements: their largest value, and four codes in a register.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
struct E4M3Code {
  static constexpr float kTop = 448, kCodeUnit = 1;
  SW_DEVICE static u32 pack(const float (&q)[4]) {
    return to_e4m3x2(q[0], q[1]) | to_e4m3x2(q[2], q[3]) << 16;
  }
};
struct E5M2Code {
  static constexpr float kTop = 57344, kCodeUnit = 1;
  SW_DEVICE static u32 pack(const float (&q)[4]) {
    return to_e5m2x2(q[0], q[1]) | to_e5m2x2(q[2], q[3]) << 16;
  }
};
#endif
// A sum with this is rounded to an integer, whose two's complement is in the low bits.
inline constexpr float kIntegerShift = 12582912.0f;  // 1.5 * 2^23
SW_DEVICE u32 pack_integers(const float (&shifted)[4]) {
  const u32 low = __byte_perm(__float_as_uint(shifted[0]), __float_as_uint(shifted[1]), 0x0040);
  const u32 high = __byte_perm(__float_as_uint(shifted[2]), __float_as_uint(shifted[3]), 0x0040);
  return __byte_perm(low, high, 0x5410);
}
template <int kBits>
struct IntCode {
  static constexpr float kTop = (1 << (kBits - 1)) - 1, kCodeUnit = 1;
  SW_DEVICE static u32 pack(const float (&q)[4]) {
    const float shifted[4] = {q[0] + kIntegerShift, q[1] + kIntegerShift, q[2] + kIntegerShift,
                              q[3] + kIntegerShift};
    return pack_integers(shifted);
  }
};
/// E2M1 as twice the number: 0, 1, 2, 3, 4, 6, 8, 12, each the integer that INT8 arithmetic takes.
struct Fp4Code {
  static constexpr float kTop = 6, kCodeUnit = 0.5f;
  SW_DEVICE static u32 pack(const float (&q)[4]) {
    float shifted[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float doubled = 2 * q[i], size = fabsf(doubled);
      // Neighbours are 1, 2 or 4 apart.
      const float shift = size < 4 ? kIntegerShift : size < 8 ? 2 * kIntegerShift : 4 * kIntegerShift;
      shifted[i] = doubled + shift - shift + kIntegerShift;
    }
    return pack_integers(shifted);
  }
};

/// The scale of a group.
struct GroupScale {
  float value;
  float lift;  // the smallest scales are divided by as 2^64 times themselves, so that no remainder underflows
  float inverse;  // of the lifted scale
  u32 exponent;   // E8M0
  bool finite;
};

template <typename InputType, typename CodeType, bool kExponents>
struct Quantizer {
  using Input = InputType;
  using Code = CodeType;
  static constexpr bool kE8M0 = kExponents;

  SW_DEVICE static u32 largest(u32 so_far, const u32 (&x)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) so_far = Input::larger(so_far, x[i] & 0x7fff7fffu);
    return so_far;
  }

  SW_DEVICE static float lift_of(float scale) {
    return scale < __uint_as_float(63 << 23) ? __uint_as_float(191 << 23) : 1;
  }

  /// `largest` is the code of the group's largest magnitude, without its sign.
  SW_DEVICE static GroupScale scale(u32 largest) {
    GroupScale out{1, 1, 1, 127, largest < Input::kInfinity};
    if (largest == 0 || !out.finite) return out;
    const float smallest = __uint_as_float(1 << 23);
    out.value = Input::low(largest) / Code::kTop;
    if (out.value < smallest) out.value = smallest;
    if constexpr (kExponents) {
      const u32 bits = __float_as_uint(out.value);
      out.exponent = (bits + 0x7fffff) >> 23;
      out.value = __uint_as_float(out.exponent << 23);
      out.inverse = __uint_as_float((254 - out.exponent) << 23);
    } else {
      out.lift = lift_of(out.value);
      out.inverse = 1 / (out.value * out.lift);
    }
    return out;
  }

  /// What is stored of it; a code times this is the number.
  SW_DEVICE static float stored_float(const GroupScale& scale) {
    return scale.finite ? scale.value * Code::kCodeUnit : __uint_as_float(0x7fc00000);
  }
  SW_DEVICE static u8 stored_exponent(const GroupScale& scale) {
    return static_cast<u8>(scale.finite ? scale.exponent - (Code::kCodeUnit < 1) : 255);
  }

  SW_DEVICE static float quotient(float x, const GroupScale& scale) {
    if constexpr (kExponents) return x * scale.inverse;
    // Rounded as a division: the reciprocal is, and the quotient is corrected by what is left over.
    const float lifted = x * scale.lift, q = lifted * scale.inverse;
    return fmaf(-fmaf(q, scale.value * scale.lift, -lifted), scale.inverse, q);
  }

  SW_DEVICE static void codes(const u32 (&x)[4], const GroupScale& scale, u32 (&out)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float q[4] = {quotient(Input::low(x[2 * i]), scale), quotient(Input::high(x[2 * i]), scale),
                          quotient(Input::low(x[2 * i + 1]), scale),
                          quotient(Input::high(x[2 * i + 1]), scale)};
      out[i] = scale.finite ? Code::pack(q) : 0;
    }
  }
};

}  // namespace sabrewing::device
