#pragma once
// Matrix products right before fast: weights as the checkpoint stores them, FP32 arithmetic, one rounding. A
// warp computes kLinearFeatures features of kLinearTokens rows; its lanes share K, and their sums are added
// in a fixed order. A row's result does not depend on the other rows.

#include "ops/values.cuh"

namespace sabrewing::device {

// A weight type reads eight consecutive values of a row, `k` a multiple of eight.
struct Fp32Weight {
  SW_DEVICE static void load(const u8* row, const u8*, int k, float (&out)[8]) {
    load8(reinterpret_cast<const float*>(row) + k, out);
  }
};

struct Bf16Weight {
  SW_DEVICE static void load(const u8* row, const u8*, int k, float (&out)[8]) {
    load8(reinterpret_cast<const Bf16*>(row) + k, out);
  }
};

struct Fp16Weight {
  SW_DEVICE static void load(const u8* row, const u8*, int k, float (&out)[8]) {
    const uint4 v = *reinterpret_cast<const uint4*>(row + static_cast<i64>(k) * 2);
    const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %2;\ncvt.f32.f16 %0, low;\ncvt.f32.f16 %1, high;\n}"
          : "=f"(out[2 * i]), "=f"(out[2 * i + 1])
          : "r"(words[i]));
    }
  }
};

// E2M1 in nibbles, the low one first, with an E8M0 scale for each 32.
struct Mxfp4Weight {
  SW_DEVICE static void load(const u8* row, const u8* scales, int k, float (&out)[8]) {
    const u32 codes = *reinterpret_cast<const u32*>(row + k / 2);
    const u32 exponent = scales[k / 32];
    const float scale = __uint_as_float(exponent == 0     ? 0x00400000u
                                        : exponent == 255 ? 0x7fc00000u
                                                          : exponent << 23);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      // The magnitude as the top of an FP32 number whose exponents are 126 too low, subnormals included.
      const u32 sign = codes << (28 - 4 * i) & 0x80000000u;
      const u32 magnitude = (codes >> (4 * i) & 7u) << 22;
      out[i] = __uint_as_float(sign | magnitude) * 0x1p126f * scale;
    }
  }
};

// Block (rows, features). Experts: (segment, features).
template <typename Weight, typename In, typename Out, bool kGated>
__global__ void __launch_bounds__(kLinearWarps* kWarp) linear(const LinearParams p) {
  constexpr int kTokens = kLinearTokens;
  constexpr int kFeatures = kLinearFeatures;
  constexpr int kOutputs = kGated ? kFeatures / 2 : kFeatures;
  static_assert(kTokens * kFeatures == kWarp && kLinearVector == 8);
  const int lane = lane_id();
  const int width = kGated ? p.n / 2 : p.n;
  const int feature0 =
      (static_cast<int>(blockIdx.y) * kLinearWarps + static_cast<int>(threadIdx.x) / kWarp) * kOutputs;
  if (feature0 >= width) return;

  int expert = 0;
  int first = static_cast<int>(blockIdx.x) * kTokens;
  int rows = p.m - first < kTokens ? p.m - first : kTokens;
  if (p.segments != nullptr) {
    if (static_cast<int>(blockIdx.x) >= *p.segment_count) return;
    const Segment segment = p.segments[blockIdx.x];
    expert = segment.expert;
    first = segment.first;
    rows = segment.rows;
  }
  const In* x[kTokens];
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    const int place = first + (t < rows ? t : 0);
    const int row = p.order != nullptr ? p.order[place] : place;
    x[t] = static_cast<const In*>(p.x) + row / p.x_divisor * p.x_stride;
  }
  const u8* weight[kFeatures];
  const u8* scales[kFeatures];
#pragma unroll
  for (int f = 0; f < kFeatures; ++f) {
    const int feature = feature0 + f % kOutputs < width ? feature0 + f % kOutputs : feature0;
    const i64 row = kGated && f >= kOutputs ? width + feature : feature;
    weight[f] = p.weight + expert * p.expert_bytes + row * p.row_bytes;
    scales[f] = p.scales + expert * p.expert_bytes + row * p.scale_row_bytes;
  }

  float sums[kTokens][kFeatures] = {};
  for (int k = lane * kLinearVector; k < p.k; k += kWarp * kLinearVector) {
    float w[kFeatures][8];
#pragma unroll
    for (int f = 0; f < kFeatures; ++f) Weight::load(weight[f], scales[f], k, w[f]);
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t >= rows) break;
      float a[8];
      load8(x[t] + k, a);
#pragma unroll
      for (int f = 0; f < kFeatures; ++f)
#pragma unroll
        for (int i = 0; i < 8; ++i) sums[t][f] += a[i] * w[f][i];
    }
  }

  // Lane t * kFeatures + f takes the sum of row t and feature f.
  float mine = 0;
#pragma unroll
  for (int t = 0; t < kTokens; ++t)
#pragma unroll
    for (int f = 0; f < kFeatures; ++f) {
      const float sum = warp_sum(sums[t][f]);
      if (lane == t * kFeatures + f) mine = sum;
    }
  const int t = lane / kFeatures;
  const int f = lane % kFeatures;
  const int feature = feature0 + f % kOutputs;
  const bool inside = t < rows && feature < width;
  if (p.bias != nullptr && inside)
    mine += p.bias[static_cast<i64>(expert) * p.n + (f >= kOutputs ? width : 0) + feature];
  if constexpr (kGated) {
    const float up = __shfl_down_sync(~0u, mine, kOutputs);
    mine = gated(mine, up, p.clamped, p.limit);
  }
  if (!inside || f >= kOutputs) return;
  const int place = first + t;
  const i64 row = p.order != nullptr ? p.order[place] : place;
  static_cast<Out*>(p.y)[row * p.y_stride + feature] = from_float<Out>(mine);
}

// Block (token): out = row ids[token] of the weight.
template <typename Weight>
__global__ void embed(const LinearParams p, const int* ids, float* out, i64 out_stride) {
  const int id = ids[blockIdx.x];
  require(id >= 0 && id < p.n);
  const u8* row = p.weight + id * p.row_bytes;
  const u8* scales = p.scales + id * p.scale_row_bytes;
  for (int k = static_cast<int>(threadIdx.x) * 8; k < p.k; k += static_cast<int>(blockDim.x) * 8) {
    float values[8];
    Weight::load(row, scales, k, values);
#pragma unroll
    for (int i = 0; i < 8; ++i) out[blockIdx.x * out_stride + k + i] = values[i];
  }
}

}  // namespace sabrewing::device
