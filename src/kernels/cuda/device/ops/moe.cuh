#pragma once
// Router, sorting of (token, slot) pairs by expert, and the weighted sum of the experts' results.

#include "ops/values.cuh"

namespace sabrewing::device {

// Orders logits: larger first, then the lower index; NaN after every number.
SW_DEVICE u64 route_key(float logit, int expert) {
  u32 bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);
  bits = logit != logit ? 0u : (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<u64>(bits) << 32 | (0xffffffffu - static_cast<u32>(expert));
}

// A warp per token. Lane j keeps the j-th choice. `all`: weights are probabilities over all experts.
__global__ void route(const float* logits, i64 stride, int tokens, int experts, int top_k, int all, int* ids,
                      float* weights) {
  const int token = static_cast<int>(blockIdx.x) * kRouteWarps + static_cast<int>(threadIdx.x) / kWarp;
  if (token >= tokens) return;
  const int lane = lane_id();
  const float* row = logits + token * stride;
  u64 taken = 0;  // bit i: expert lane + 32 i
  int chosen = 0;
  for (int k = 0; k < top_k; ++k) {
    u64 best = 0;
    for (int e = lane; e < experts; e += kWarp) {
      const u64 key = route_key(row[e], e);
      if ((taken >> (e / kWarp) & 1) == 0 && key > best) best = key;
    }
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      const u64 other = __shfl_xor_sync(~0u, best, offset);
      best = other > best ? other : best;
    }
    const int expert = static_cast<int>(0xffffffffu - static_cast<u32>(best));
    if (expert % kWarp == lane) taken |= u64{1} << (expert / kWarp);
    if (lane == k) chosen = expert;
  }
  const float maximum = row[__shfl_sync(~0u, chosen, 0)];
  const float mine = lane < top_k ? expf(row[chosen] - maximum) : 0.0f;
  float sum = 0;
  if (all) {
    for (int e = lane; e < experts; e += kWarp) sum += expf(row[e] - maximum);
  } else {
    sum = mine;
  }
  sum = warp_sum(sum);
  if (lane < top_k) {
    ids[static_cast<i64>(token) * top_k + lane] = chosen;
    weights[static_cast<i64>(token) * top_k + lane] = mine / sum;
  }
}

// One block. Sorts the pairs whose id is not -1 by expert and cuts each expert's into segments of at most
// kLinearTokens. The order inside an expert is any: rows do not depend on their neighbours. Shared memory:
// 3 integers per expert.
__global__ void __launch_bounds__(kGroupThreads)
    group_by_expert(const int* ids, int pairs, int experts, int* order, Segment* segments,
                    int* segment_count) {
  extern __shared__ int shared_integers[];
  int* counts = shared_integers;
  int* cursors = counts + experts;
  int* tiles = cursors + experts;
  const int thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < experts; e += kGroupThreads) counts[e] = 0;
  __syncthreads();
  for (int i = thread; i < pairs; i += kGroupThreads) {
    const int id = ids[i];
    require(id >= -1 && id < experts);
    if (id >= 0) atomicAdd(&counts[id], 1);
  }
  __syncthreads();
  if (thread < kWarp) {  // exclusive sums over the experts
    int rows_before = 0;
    int tiles_before = 0;
    for (int base = 0; base < experts; base += kWarp) {
      const int e = base + thread;
      const int rows = e < experts ? counts[e] : 0;
      const int own_tiles = (rows + kLinearTokens - 1) / kLinearTokens;
      int row_sum = rows;
      int tile_sum = own_tiles;
#pragma unroll
      for (int offset = 1; offset < kWarp; offset *= 2) {
        const int r = __shfl_up_sync(~0u, row_sum, offset);
        const int t = __shfl_up_sync(~0u, tile_sum, offset);
        if (thread >= offset) {
          row_sum += r;
          tile_sum += t;
        }
      }
      if (e < experts) {
        cursors[e] = rows_before + row_sum - rows;
        tiles[e] = tiles_before + tile_sum - own_tiles;
      }
      rows_before += __shfl_sync(~0u, row_sum, kWarp - 1);
      tiles_before += __shfl_sync(~0u, tile_sum, kWarp - 1);
    }
    if (thread == 0) *segment_count = tiles_before;
  }
  __syncthreads();
  for (int e = thread; e < experts; e += kGroupThreads)
    for (int done = 0; done < counts[e]; done += kLinearTokens)
      segments[tiles[e] + done / kLinearTokens] = {
          e, cursors[e] + done, counts[e] - done < kLinearTokens ? counts[e] - done : kLinearTokens};
  __syncthreads();
  for (int i = thread; i < pairs; i += kGroupThreads)
    if (ids[i] >= 0) order[atomicAdd(&cursors[ids[i]], 1)] = i;
}

// Block (token, columns): y = sum of weight * partial[token, slot] in the order of the slots.
template <typename T>
__global__ void combine(const float* partial, const int* ids, const float* weights, int top_k, int cols, T* y,
                        i64 y_stride) {
  const int i = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
  if (i >= cols) return;
  const i64 first = static_cast<i64>(blockIdx.x) * top_k;
  float sum = 0;
  for (int k = 0; k < top_k; ++k)
    if (ids[first + k] >= 0) sum += weights[first + k] * partial[(first + k) * cols + i];
  y[blockIdx.x * y_stride + i] = from_float<T>(sum);
}

}  // namespace sabrewing::device
