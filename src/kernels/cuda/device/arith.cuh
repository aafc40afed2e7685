#pragma once
// Register arithmetic of the decoders. NVRTC compiles the definitions here; a test that runs the decoders on
// the host defines the same functions before it includes them.

#include "types.cuh"

#ifdef __CUDACC__

namespace sabrewing::device {

SW_DEVICE u32 multiply_bf16x2(u32 a, u32 b) {
  u32 out;
#if __CUDA_ARCH__ >= 900
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
#else
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(0x80008000u));
#endif
  return out;
}
SW_DEVICE u32 fma_bf16x2(u32 a, u32 b, u32 c) {
  u32 out;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
}
SW_DEVICE u32 multiply_f16x2(u32 a, u32 b) {
  u32 out;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}
SW_DEVICE u32 fma_f16x2(u32 a, u32 b, u32 c) {
  u32 out;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
}
SW_DEVICE float f16_to_float(u32 code) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(static_cast<u16>(code)));
  return out;
}
SW_DEVICE u32 float_to_f16(float x) {
  u16 out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
  return out;
}
// The larger number of each half; NaN when one of them is.
SW_DEVICE u32 max_nan_bf16x2(u32 a, u32 b) {
  u32 out;
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}
SW_DEVICE u32 max_nan_f16x2(u32 a, u32 b) {
  u32 out;
  asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}
#if __CUDA_ARCH__ >= 890
// Two FP8 codes, `low` in the low byte; numbers beyond the range become the largest.
SW_DEVICE u32 to_e4m3x2(float low, float high) {
  u16 out;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(out) : "f"(high), "f"(low));
  return out;
}
SW_DEVICE u32 to_e5m2x2(float low, float high) {
  u16 out;
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(out) : "f"(high), "f"(low));
  return out;
}
#endif
// 1, 2 or 4 words of global memory at a multiple of their size; what is loaded does not change.
template <int kWords>
SW_DEVICE void load_words(const void* from, u32* out) {
  if constexpr (kWords == 4) {
    const uint4 v = __ldg(static_cast<const uint4*>(from));
    out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
  } else if constexpr (kWords == 2) {
    const uint2 v = __ldg(static_cast<const uint2*>(from));
    out[0] = v.x, out[1] = v.y;
  } else {
    out[0] = __ldg(static_cast<const u32*>(from));
  }
}
template <int kWords>
SW_DEVICE void store_words(void* to, const u32* words) {
  const u64 address = __cvta_generic_to_global(to);
  if constexpr (kWords == 4)
    asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(address), "r"(words[0]), "r"(words[1]),
                 "r"(words[2]), "r"(words[3])
                 : "memory");
  else if constexpr (kWords == 2)
    asm volatile("st.global.v2.u32 [%0], {%1,%2};" ::"l"(address), "r"(words[0]), "r"(words[1]) : "memory");
  else
    *static_cast<u32*>(to) = words[0];
}
/// The sign bit of each byte over the whole byte.
SW_DEVICE u32 byte_signs(u32 a) {
  u32 out;
  asm("prmt.b32 %0, %1, %1, 0xba98;" : "=r"(out) : "r"(a));
  return out;
}

}  // namespace sabrewing::device

#endif
