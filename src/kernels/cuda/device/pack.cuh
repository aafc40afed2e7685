#pragma once
// Kernels that pack a weight: the scan of its scales first, then every word.

#include "pack_values.cuh"
#include "ptx.cuh"

namespace sabrewing::device {

SW_DEVICE float warp_largest(float x) {
  return __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(x)));  // not negative: bits are in order
}

// A warp for a row.
SW_DEVICE void pack_scan(const PackParams& p) {
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / 32)) + static_cast<int>(threadIdx.x) / 32;
  if (row >= p.n) return;
  float scale = 0, zero = 0;
  const bool trouble = scan_row(p, row, lane_id(), 32, scale, zero);
  scale = warp_largest(scale);
  zero = warp_largest(zero);
  if (trouble) p.status[1] = 1;
  if (lane_id() == 0) {
    p.row_scale[row] = scale;
    p.row_zero[row] = zero;
    atomicMax(p.status, __float_as_uint(scale));
  }
}

// Block (slab, row block).
SW_DEVICE void pack_words(const PackParams& p) {
  const int slab = static_cast<int>(blockIdx.x), row_block = static_cast<int>(blockIdx.y);
  const int weights = p.slab_k / kPackBlock * 128 * p.words, all = weights + 32 * p.scale_words;
  u32* const out = reinterpret_cast<u32*>(p.out) + (static_cast<i64>(row_block) * p.slabs + slab) * all;
  bool trouble = false;
  for (int i = static_cast<int>(threadIdx.x); i < all; i += static_cast<int>(blockDim.x))
    out[i] = i < weights ? weight_word(p, row_block, slab, i, trouble)
                         : scale_word(p, row_block, slab, i - weights, trouble);
  const int row = row_block * kPackBlock + static_cast<int>(threadIdx.x);
  if (slab == 0 && threadIdx.x < kPackBlock)
    reinterpret_cast<float*>(p.out + p.factor_offset)[row] = row_factor(p, row, trouble);
  if (trouble) p.status[1] = 1;
}

}  // namespace sabrewing::device
