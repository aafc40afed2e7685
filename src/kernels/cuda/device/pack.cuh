#pragma once
// Kernels that pack a weight: the scan of its scales first, then every word.

#include "pack_values.cuh"
#include "ptx.cuh"

namespace sabrewing::device {

SW_DEVICE float warp_largest(float x) {
  return __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(x)));  // not negative: bits are in order
}

// A warp for a row.
SW_DEVICE void pack_scan(const PackParams& p, const PackLayout& l) {
  const int row = static_cast<int>(blockIdx.x * (blockDim.x / 32)) + static_cast<int>(threadIdx.x) / 32;
  if (row >= p.n) return;
  float scale = 0, zero = 0;
  const bool trouble = scan_row(p, l, row, lane_id(), 32, scale, zero);
  scale = warp_largest(scale);
  zero = warp_largest(zero);
  if (trouble) p.status[1] = 1;
  if (lane_id() != 0) return;
  if (l.scales == PackScales::kBefore) p.row_lowered[row] = lowered_of_row(l, scale, zero);
  if (l.encoding != PackEncoding::kPlanes) atomicMax(p.status, __float_as_uint(scale));
}

// Block (tile of columns, row block).
SW_DEVICE void pack_words(const PackParams& p, const PackLayout& l) {
  __shared__ alignas(16) u32 codes[kPackTileWords];
  const int thread = static_cast<int>(threadIdx.x), tile = static_cast<int>(blockIdx.x);
  const int row_block = static_cast<int>(blockIdx.y);
  bool trouble = false;
  stage_codes(p, l, row_block, tile, thread, codes);
  pack_scales(p, l, row_block, tile, thread, trouble);
  if (tile == 0) pack_factor(p, l, row_block, thread, trouble);
  __syncthreads();
  pack_codes(p, l, row_block, tile, thread, codes, trouble);
  if (trouble) p.status[1] = 1;
}

}  // namespace sabrewing::device
