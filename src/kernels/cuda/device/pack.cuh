#pragma once
// Kernels that pack a weight: the scan of its scales first, then every word.

#include "pack_values.cuh"
#include "ptx.cuh"

namespace sabrewing::device {

SW_DEVICE float warp_largest(float x) {
  return __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(x)));  // not negative: bits are in order
}

SW_DEVICE double warp_sum(double x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
  return x;
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
  const bool folded = l.encoding == PackEncoding::kE2M1Folded;
  if (folded && folded_spread(scale, zero) > kFoldedDistance) {
    double error = 0, norm = 0;
    folded_error(p, l, row, lowered_of_row(l, scale, zero), lane_id(), 32, error, norm);
    if (warp_sum(error) > kFoldedError * kFoldedError * warp_sum(norm)) p.status[1] = 1;
  }
  if (lane_id() != 0) return;
  if (l.scales == PackScales::kBefore || folded) p.row_lowered[row] = lowered_of_row(l, scale, zero);
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
