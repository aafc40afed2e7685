#pragma once
// Paged attention: flash-style online softmax (Dao et al., arXiv 2205.14135) in FP32 over tiles of
// kAttentionKeys keys. The tiles of a query begin at its first visible key, so a row does not depend on how a
// prompt is cut into steps or on the block size.

#include "ops/values.cuh"

namespace sabrewing::device {

SW_DEVICE int sequence_of(const AttentionParams& p, int token) {
  int low = 0;
  int high = p.sequences - 1;
  while (low < high) {  // the last sequence that begins at or before the token
    const int middle = (low + high + 1) / 2;
    if (p.query_start[middle] <= token)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

// Row of the cache, in tokens.
SW_DEVICE i64 cache_slot(const AttentionParams& p, const int* blocks, int position) {
  const int block = blocks[position / p.block_size];
  require(block >= 0);
  return static_cast<i64>(block) * p.block_size + position % p.block_size;
}

// Block (token).
template <typename T, typename Cache>
__global__ void write_cache(const AttentionParams p) {
  const int token = static_cast<int>(blockIdx.x);
  const int position = p.positions[token];
  require(position >= 0 && position / p.block_size < p.max_blocks);
  const int* blocks = p.block_table + static_cast<i64>(sequence_of(p, token)) * p.max_blocks;
  const int width = p.kv_heads * p.head_dim;
  const i64 slot = cache_slot(p, blocks, position) * width;
  const T* k = static_cast<const T*>(p.k) + token * p.k_stride;
  const T* v = static_cast<const T*>(p.v) + token * p.v_stride;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += static_cast<int>(blockDim.x)) {
    static_cast<Cache*>(p.keys)[slot + i] = from_float<Cache>(to_float(k[i]));
    static_cast<Cache*>(p.values)[slot + i] = from_float<Cache>(to_float(v[i]));
  }
}

// Block (token, kv head, kAttentionHeads of the head's queries). Shared memory: queries (heads, D), keys
// (kAttentionKeys, D + 1), and the tile's weights and block rows.
template <typename T, typename Cache>
__global__ void __launch_bounds__(kAttentionThreads, 4) attend(const AttentionParams p) {
  constexpr int kWarps = kAttentionThreads / kWarp;
  constexpr int kHeadsPerWarp = kAttentionHeads / kWarps;
  constexpr int kDimsPerThread = kMaxHeadDim / kAttentionThreads;
  static_assert(kAttentionKeys == kWarp && kAttentionHeads % kWarps == 0);
  const float infinity = __uint_as_float(0x7f800000u);
  extern __shared__ float shared_floats[];
  __shared__ float weights[kAttentionHeads][kAttentionKeys];
  __shared__ float corrections[kAttentionHeads];
  __shared__ float inverse_sums[kAttentionHeads];
  __shared__ i64 slots[kAttentionKeys];

  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarp;
  const int lane = lane_id();
  const int token = static_cast<int>(blockIdx.x);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int group = p.q_heads / p.kv_heads;
  const int first_head = static_cast<int>(blockIdx.z) * kAttentionHeads;
  const int heads = group - first_head < kAttentionHeads ? group - first_head : kAttentionHeads;
  const int dim = p.head_dim;
  float* queries = shared_floats;
  float* keys = shared_floats + kAttentionHeads * dim;
  const int key_stride = dim + 1;

  const int position = p.positions[token];
  require(position >= 0 && position / p.block_size < p.max_blocks);
  const int* blocks = p.block_table + static_cast<i64>(sequence_of(p, token)) * p.max_blocks;
  const int head0 = kv_head * group + first_head;
  const T* q = static_cast<const T*>(p.q) + token * p.q_stride + static_cast<i64>(head0) * dim;
  for (int i = thread; i < kAttentionHeads * dim; i += kAttentionThreads)
    queries[i] = i < heads * dim ? to_float(q[i]) * p.scale : 0.0f;

  float maxima[kHeadsPerWarp];
  float sums[kHeadsPerWarp];
#pragma unroll
  for (int h = 0; h < kHeadsPerWarp; ++h) {
    const int head = warp + h * kWarps;
    const bool sink = p.sinks != nullptr && head < heads;
    maxima[h] = sink ? p.sinks[head0 + head] : -infinity;
    sums[h] = sink ? 1.0f : 0.0f;
  }
  float out[kAttentionHeads][kDimsPerThread] = {};

  const i64 token_stride = static_cast<i64>(p.kv_heads) * dim;
  const Cache* cached_keys = static_cast<const Cache*>(p.keys) + static_cast<i64>(kv_head) * dim;
  const Cache* cached_values = static_cast<const Cache*>(p.values) + static_cast<i64>(kv_head) * dim;
  const int first_key = p.window > 0 && position >= p.window ? position - p.window + 1 : 0;
  for (int base = first_key; base <= position; base += kAttentionKeys) {
    const int count = position + 1 - base < kAttentionKeys ? position + 1 - base : kAttentionKeys;
    __syncthreads();
    if (thread < count) slots[thread] = cache_slot(p, blocks, base + thread) * token_stride;
    __syncthreads();
    for (int i = thread; i < kAttentionKeys * dim; i += kAttentionThreads) {
      const int j = i / dim;
      const int d = i - j * dim;
      keys[j * key_stride + d] = j < count ? to_float(cached_keys[slots[j] + d]) : 0.0f;
    }
    __syncthreads();

    float scores[kHeadsPerWarp] = {};
    for (int d = 0; d < dim; ++d) {
      const float key = keys[lane * key_stride + d];
#pragma unroll
      for (int h = 0; h < kHeadsPerWarp; ++h) scores[h] += queries[(warp + h * kWarps) * dim + d] * key;
    }
#pragma unroll
    for (int h = 0; h < kHeadsPerWarp; ++h) {
      const float score = lane < count ? scores[h] : -infinity;
      const float maximum = fmaxf(maxima[h], warp_maximum(score));
      const float correction = expf(maxima[h] - maximum);
      const float weight = lane < count ? expf(score - maximum) : 0.0f;
      maxima[h] = maximum;
      sums[h] = sums[h] * correction + warp_sum(weight);
      weights[warp + h * kWarps][lane] = weight;
      if (lane == 0) corrections[warp + h * kWarps] = correction;
    }
    __syncthreads();

#pragma unroll
    for (int e = 0; e < kDimsPerThread; ++e) {
      const int d = thread + e * kAttentionThreads;
      if (d >= dim) break;
#pragma unroll
      for (int h = 0; h < kAttentionHeads; ++h) out[h][e] *= corrections[h];
      for (int j = 0; j < count; ++j) {
        const float value = to_float(cached_values[slots[j] + d]);
#pragma unroll
        for (int h = 0; h < kAttentionHeads; ++h) out[h][e] += weights[h][j] * value;
      }
    }
  }

#pragma unroll
  for (int h = 0; h < kHeadsPerWarp; ++h)
    if (lane == 0) inverse_sums[warp + h * kWarps] = 1.0f / sums[h];
  __syncthreads();
  T* o = static_cast<T*>(p.o) + token * p.o_stride + static_cast<i64>(head0) * dim;
#pragma unroll
  for (int e = 0; e < kDimsPerThread; ++e) {
    const int d = thread + e * kAttentionThreads;
#pragma unroll
    for (int h = 0; h < kAttentionHeads; ++h)
      if (d < dim && h < heads) o[h * dim + d] = from_float<T>(out[h][e] * inverse_sums[h]);
  }
}

}  // namespace sabrewing::device
