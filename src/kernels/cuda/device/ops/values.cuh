#pragma once
// Storage types and warp and block reductions. Arithmetic is FP32; a result is rounded once, when it is
// stored.

#include "ops/params.h"
#include "ptx.cuh"

namespace sabrewing::device {

struct Bf16 {
  u16 bits;
};

SW_DEVICE float to_float(float x) { return x; }
SW_DEVICE float to_float(Bf16 x) { return __uint_as_float(static_cast<u32>(x.bits) << 16); }

template <typename T>
SW_DEVICE T from_float(float x);
template <>
SW_DEVICE float from_float<float>(float x) {
  return x;
}
template <>
SW_DEVICE Bf16 from_float<Bf16>(float x) {
  return {static_cast<u16>(pack_bf16(x, 0.0f))};
}

// Eight consecutive values from an address aligned to 16 bytes.
SW_DEVICE void load8(const float* from, float (&out)[8]) {
  const float4 a = reinterpret_cast<const float4*>(from)[0];
  const float4 b = reinterpret_cast<const float4*>(from)[1];
  out[0] = a.x, out[1] = a.y, out[2] = a.z, out[3] = a.w;
  out[4] = b.x, out[5] = b.y, out[6] = b.z, out[7] = b.w;
}
SW_DEVICE void load8(const Bf16* from, float (&out)[8]) {
  const uint4 v = *reinterpret_cast<const uint4*>(from);
  const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = __uint_as_float(words[i] << 16);
    out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

// Over all lanes, in the same order on every lane.
SW_DEVICE float warp_sum(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(~0u, x, offset);
  return x;
}
SW_DEVICE float warp_maximum(float x) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, offset));
  return x;
}

// Over all threads of a block of whole warps.
SW_DEVICE float block_sum(float x) {
  __shared__ float sums[32];
  x = warp_sum(x);
  if (lane_id() == 0) sums[threadIdx.x / kWarp] = x;
  __syncthreads();
  float total = 0;
  for (u32 i = 0; i < blockDim.x / kWarp; ++i) total += sums[i];
  return total;
}

SW_DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// As GluActivation defines them; NaN stays NaN.
SW_DEVICE float gated(float gate, float up, int clamped, float limit) {
  if (!clamped) return gate * sigmoid(gate) * up;
  gate = gate > limit ? limit : gate;
  up = up > limit ? limit : (up < -limit ? -limit : up);
  return gate * sigmoid(1.702f * gate) * (up + 1.0f);
}

// An index that no caller may pass: the launch faults, and the error names it.
SW_DEVICE void require(bool condition) {
  if (!condition) __trap();
}

}  // namespace sabrewing::device
